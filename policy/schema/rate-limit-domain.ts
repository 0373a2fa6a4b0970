import { z } from 'zod';
import { mode } from './axis.ts';
import { mapList, withRules } from './cross-field.ts';
import { domainName, inForceStatus } from './fields.ts';

const source = withRules(
  z.strictObject({
    type: z
      .enum(['ApiKey', 'Header', 'Caller', 'ClientIP'])
      .describe(
        'ApiKey: the owner of the API key. Header: the value of a header. Caller: who the caller says it is. ClientIP: the address of the client. Header and Caller are believed from trusted callers only.',
      ),
    name: z
      .string()
      .max(64)
      .regex(/^[a-z0-9-]+$/)
      .optional()
      .describe('Name of the header in lower case: required for Header, x-api-key by default for ApiKey.'),
  }),
  [
    {
      cel: "self.type != 'Header' || has(self.name)",
      holds: (value) => value.type !== 'Header' || value.name !== undefined,
      reason: 'SourceNameMissing',
      message: 'name is required for Header',
      path: ['name'],
    },
    {
      cel: "!has(self.name) || self.type == 'Header' || self.type == 'ApiKey'",
      holds: (value) => value.name === undefined || value.type === 'Header' || value.type === 'ApiKey',
      reason: 'SourceNameNotAllowed',
      message: 'only Header and ApiKey have a name',
      path: ['name'],
    },
  ],
).describe('Where the identity of a consumer may come from.');

const sources = z
  .array(source)
  .min(1)
  .max(8)
  .meta({ 'x-kubernetes-list-type': 'atomic' })
  .describe(
    'Tried in this order; the first that the request carries says who the consumer is. Default: ApiKey in x-api-key, Caller, ClientIP.',
  );

const identity = z
  .strictObject({
    sources: sources.optional(),
    onMissing: z
      .enum(['ClientIP', 'Deny', 'SkipRule'])
      .optional()
      .describe(
        'When no source says who the consumer is. ClientIP: the address of the client stands for it. Deny: the request is denied (401). SkipRule: rules that count by consumer do not apply. Default: ClientIP.',
      ),
    onInvalidKey: z
      .enum(['Deny', 'Anonymous'])
      .optional()
      .describe(
        'When an API key is not valid here. Deny: the request is denied (401). Anonymous: as if the request had no key. Default: Deny.',
      ),
    ipv6PrefixLength: z
      .int()
      .min(32)
      .max(128)
      .optional()
      .describe('Addresses of IPv6 that share so many bits are one client. Default: 64.'),
  })
  .describe('How it is known who calls.');

const seconds = (max: number) => z.int().min(1).max(max);

const ipBlock = z
  .strictObject({
    invalidKeys: z
      .int()
      .min(1)
      .max(1_000_000)
      .optional()
      .describe('So many requests with an invalid API key from one client lead to the block. Default: 10.'),
    withinSeconds: seconds(86_400).optional().describe('Seconds within which they count together. Default: 60.'),
    forSeconds: seconds(86_400)
      .optional()
      .describe("Seconds for which the client's further requests with invalid keys are denied (429). Default: 900."),
    mode: mode.optional().describe('Shadow: counted and reported, and nobody is blocked. Default: Enforce.'),
  })
  .describe('What happens to clients that try API keys. Requests with a valid key are never blocked by it.');

const grant = z
  .strictObject({ namespace: domainName.describe('Name of the namespace.') })
  .describe('A namespace whose policies and consumers may belong to this domain.');

export const rateLimitDomainSpec = z
  .strictObject({
    identity: identity.optional(),
    ipBlock: ipBlock.optional(),
    partitionBy: z
      .enum(['consumer', 'tenant', 'clientIP'])
      .optional()
      .describe(
        'Spreads the counters of the domain over Redis Cluster by this axis, which every rule and penalty must then count by. Default: all counters of the domain are in one slot.',
      ),
    grants: mapList(grant, ['namespace'], { min: 1, max: 64 })
      .optional()
      .describe('Other namespaces whose policies and consumers may belong to this domain.'),
  })
  .describe(
    'What is one for a whole domain. The name of the object is the domain; it belongs to the namespace whose name it begins with.',
  );

export const rateLimitDomainStatus = z
  .strictObject(inForceStatus)
  .describe('What is in force, as acknowledged by the limiter pods.');

export type RateLimitDomainSpec = z.output<typeof rateLimitDomainSpec>;
export type PartitionAxis = NonNullable<RateLimitDomainSpec['partitionBy']>;
