// The description of every endpoint, made from the schemas that the endpoints themselves use.
import { z } from 'zod';
import {
  batchAnswerSchema,
  decisionAnswerSchema,
  deniedSchema,
  healthSchema,
  pardonAnswerSchema,
  penaltiesSchema,
  plainAllowedSchema,
  plainBadSchema,
  plainDeniedSchema,
  problemSchema,
  refundAnswerSchema,
  rlsAnswerSchema,
} from '../http/answers-schema.ts';
import { batchRequestSchema, decisionRequestSchema, plainRequestSchema, refundRequestSchema } from '../http/request.ts';
import { rlsBodySchema } from '../rls/json.ts';
import { deniedQuerySchema, pardonRequestSchema, penaltiesQuerySchema } from './requests.ts';

export type OpenApiDocument = {
  readonly openapi: string;
  readonly info: object;
  readonly paths: Readonly<Record<string, object>>;
};

type Answers = Readonly<Record<string, readonly [description: string, schema?: z.ZodType]>>;

const PROBLEM = 'application/problem+json';
const BAD: Answers = { '400': ['What is wrong with the request, by field.', problemSchema] };
const NOT_READY: Answers = { '503': ['No configuration is loaded yet.', problemSchema] };
const STRANGER: Answers = { '403': ['The address of the caller is not one of --ops-allowed.', problemSchema] };
const INVALID_KEY: Answers = { '401': ['The API key is not valid for this domain.', problemSchema] };

/** OpenAPI 3.1. */
export function describeApi(version: string): OpenApiDocument {
  return {
    openapi: '3.1.0',
    info: {
      title: 'Sluice limiter',
      version,
      description: 'Whether requests may pass. Endpoints tagged "operations" are on the ops port.',
    },
    paths: { ...decisionPaths(), ...gatewayPaths(), ...operationPaths() },
  };
}

function decisionPaths(): Record<string, object> {
  return {
    '/v1/decision/check': {
      post: operation('check', 'Decide about one request', decisionRequestSchema, {
        '200': ['The decision, denials included.', decisionAnswerSchema],
        ...BAD,
        ...INVALID_KEY,
        ...NOT_READY,
      }),
    },
    '/v1/decision/batch': {
      post: operation('batch', 'Decide about up to 1000 requests', batchRequestSchema, {
        '200': ['The decisions, in the order of the checks.', batchAnswerSchema],
        ...BAD,
        ...NOT_READY,
      }),
    },
    '/v1/decision/refund': {
      post: operation('refund', 'Give back what a refundable request was charged', refundRequestSchema, {
        '200': ['It was given back.', refundAnswerSchema],
        ...BAD,
        '403': ['The caller is not trusted.', problemSchema],
        '404': ['There is nothing to give back under this id.', problemSchema],
        '503': ['Redis cannot be reached.', problemSchema],
      }),
    },
    '/check': {
      post: operation(
        'plainCheck',
        'Decide about an identifier, in the domain of the setting checkDomain',
        plainRequestSchema,
        {
          '200': ['It may pass.', plainAllowedSchema],
          '429': ['It may not.', plainDeniedSchema],
          '400': ['What is wrong with the request.', plainBadSchema],
          '503': ['No configuration is loaded yet.', plainBadSchema],
        },
      ),
    },
    '/health': {
      get: operation('health', 'Whether decisions are served', undefined, {
        '200': ['They are.', healthSchema],
        '503': ['No configuration is loaded yet.', healthSchema],
      }),
    },
  };
}

function gatewayPaths(): Record<string, object> {
  const authorize = (door: string, denied: string): object => ({
    parameters: [parameter('path', 'domain', true), parameter('path', 'rest', true)],
    get: operation(door, 'May the request pass? Any method; the query is never read.', undefined, {
      '200': ['It may. Exactly 200.'],
      [denied]: ['It may not.', problemSchema],
      ...INVALID_KEY,
      ...(denied === '403' ? {} : { '400': ['The path cannot be understood: a denial as well.', problemSchema] }),
      ...NOT_READY,
    }),
  });
  return {
    '/json': {
      post: operation('shouldRateLimit', "Envoy's rate limit service, as protojson", rlsBodySchema, {
        '200': ['OK', rlsAnswerSchema],
        '429': ['OVER_LIMIT', rlsAnswerSchema],
        ...BAD,
        ...NOT_READY,
      }),
    },
    '/authz/{domain}/{rest}': authorize('authz', '429'),
    '/authz403/{domain}/{rest}': authorize('authz403', '403'),
  };
}

function operationPaths(): Record<string, object> {
  const ops = (one: object): object => ({ ...one, tags: ['operations'] });
  return {
    '/explain': {
      post: ops(
        operation('explain', 'Decide without counting, and tell how it came about', decisionRequestSchema, {
          '200': ['The whole path of the decision.'],
          ...BAD,
          ...STRANGER,
          ...NOT_READY,
        }),
      ),
    },
    '/penalties': {
      get: ops({
        ...operation('penalties', 'Subjects above NORMAL', undefined, {
          '200': ['Those that stay so longest first.', penaltiesSchema],
          ...BAD,
          ...STRANGER,
          ...NOT_READY,
        }),
        parameters: queryParameters(penaltiesQuerySchema),
      }),
    },
    '/penalty/pardon': {
      post: ops(
        operation('pardon', 'Lift a penalty', pardonRequestSchema, {
          '200': ['The state before.', pardonAnswerSchema],
          ...BAD,
          ...STRANGER,
          ...NOT_READY,
        }),
      ),
    },
    '/denied': {
      get: ops({
        ...operation('denied', 'Who is denied most, as far as this pod saw it', undefined, {
          '200': ['The most denied first.', deniedSchema],
          ...BAD,
          ...STRANGER,
        }),
        parameters: queryParameters(deniedQuerySchema),
      }),
    },
  };
}

function operation(operationId: string, summary: string, body: z.ZodType | undefined, answers: Answers): object {
  return {
    operationId,
    summary,
    ...(body === undefined
      ? {}
      : { requestBody: { required: true, content: { 'application/json': { schema: jsonSchema(body, 'input') } } } }),
    responses: Object.fromEntries(
      Object.entries(answers).map(([status, [description, schema]]) => [status, response(description, schema)]),
    ),
  };
}

function response(description: string, schema: z.ZodType | undefined): object {
  if (schema === undefined) return { description };
  const type = schema === problemSchema ? PROBLEM : 'application/json';
  return { description, content: { [type]: { schema: jsonSchema(schema, 'output') } } };
}

const parameter = (where: 'path' | 'query', name: string, required: boolean): object => ({
  in: where,
  name,
  required,
  schema: { type: 'string' },
});

function queryParameters(schema: z.ZodObject<Readonly<Record<string, z.ZodType>>>): object[] {
  return Object.entries(schema.shape).map(([name, field]) => ({
    ...parameter('query', name, !z.safeParse(field, undefined).success),
    schema: jsonSchema(field, 'input'),
  }));
}

/** OpenAPI 3.1 has the dialect of JSON Schema 2020-12. */
function jsonSchema(schema: z.ZodType, io: 'input' | 'output'): object {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, { target: 'draft-2020-12', io });
  return rest;
}
