import { z } from 'zod';
import { type ResourceKind, resourceKinds } from './kinds.ts';

/** Increased when a generated CRD changes; the operator compares it with the installed ones. */
export const SCHEMA_NUMBER = 2;

export const GROUP = 'sluice.dev';
export const VERSION = 'v1alpha1';

type Json = { [key: string]: unknown };

/** The CustomResourceDefinition of a kind, as a plain object. */
export function toCrd(kind: ResourceKind): Json {
  const definition = resourceKinds[kind];
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: `${definition.plural}.${GROUP}`,
      annotations: { [`${GROUP}/schema`]: String(SCHEMA_NUMBER) },
    },
    spec: {
      group: GROUP,
      scope: definition.scope,
      names: {
        kind,
        listKind: `${kind}List`,
        plural: definition.plural,
        singular: kind.toLowerCase(),
        shortNames: definition.shortNames,
        categories: ['sluice'],
      },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: definition.columns,
          schema: { openAPIV3Schema: rootSchema(kind) },
        },
      ],
    },
  };
}

function rootSchema(kind: ResourceKind): Json {
  const definition = resourceKinds[kind];
  return {
    type: 'object',
    description: definition.description,
    required: ['spec'],
    properties: {
      apiVersion: { type: 'string', description: 'Version of the schema of this object.' },
      kind: { type: 'string', description: 'Kind of this object.' },
      metadata: { type: 'object' },
      spec: structural(definition.spec),
      // Until the operator has seen an object, tools that wait for it must not take it for finished.
      status: { ...structural(definition.status), default: { observedGeneration: -1 } },
    },
  };
}

/** A structural schema: what zod prints, less what the API server refuses. */
function structural(schema: z.ZodType): Json {
  const printed: unknown = z.toJSONSchema(schema, { target: 'openapi-3.0', io: 'input' });
  const cleaned = clean(printed);
  if (!isJson(cleaned)) throw new TypeError('a schema of a resource must be an object');
  return cleaned;
}

function clean(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(clean);
  if (!isJson(value)) return value;
  const cleaned: Json = {};
  for (const [key, entry] of Object.entries(value)) {
    // The API server prunes unknown fields and refuses additionalProperties beside properties.
    if (key === 'additionalProperties' && entry === false) continue;
    cleaned[key] = clean(entry);
  }
  if (cleaned['type'] === 'integer') cleaned['format'] = 'int64';
  return cleaned;
}

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
