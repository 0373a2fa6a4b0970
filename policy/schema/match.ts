import { z } from 'zod';
import { mapList, setList, text, withRules } from './cross-field.ts';
import { label } from './fields.ts';

const path = z
  .strictObject({
    type: z
      .enum(['Exact', 'Prefix', 'Template'])
      .describe(
        'Exact: the whole path. Prefix: the path and everything below it. Template: segments in braces, as in /users/{id}, match any one segment.',
      ),
    value: z
      .string()
      .max(256)
      .regex(/^\/([A-Za-z0-9_.~!$&'()*+,;=:@{}%-]+\/)*([A-Za-z0-9_.~!$&'()*+,;=:@{}%-]+)?$/)
      .describe('A path from the root, without a query.'),
  })
  .describe('A path that matches.');

/** What a header or an attribute is compared with. */
const valueTypes = ['Exact', 'Present', 'Absent'] as const;

const exactHasValue = [
  {
    cel: "has(self.value) == (self.type == 'Exact')",
    holds: (matcher: { readonly type: string; readonly value?: string | undefined }) =>
      (matcher.value !== undefined) === (matcher.type === 'Exact'),
    reason: 'ValueMismatch',
    message: 'value is required for Exact and not allowed otherwise',
    path: ['value'],
  },
];

const header = withRules(
  z.strictObject({
    name: z
      .string()
      .max(64)
      .regex(/^[a-z0-9-]+$/)
      .describe('Name of the header in lower case.'),
    type: z
      .enum(valueTypes)
      .describe('Exact: the header has the value. Present: it has any. Absent: the request has no such header.'),
    value: z
      .string()
      .max(256)
      .regex(/^[ -~]*$/)
      .optional()
      .describe('The value for Exact, compared byte by byte.'),
  }),
  exactHasValue,
).describe('A condition on a header.');

const attribute = withRules(
  z.strictObject({
    name: z
      .string()
      .max(64)
      .regex(/^[A-Za-z0-9_.-]+$/)
      .describe('Name of the attribute, as the caller says it.'),
    type: z
      .enum(valueTypes)
      .describe('Exact: the attribute has the value. Present: it has any. Absent: the request has no such attribute.'),
    value: text(256).optional().describe('The value for Exact, compared character by character.'),
  }),
  exactHasValue,
).describe('A condition on an attribute.');

/** A host name in lower case, or `*.` and a host name: everything below it. */
const host = z
  .string()
  .max(253)
  .regex(/^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/);

/** The full syntax is checked by `validate`. */
const cidr = z
  .string()
  .max(49)
  .regex(/^[0-9A-Fa-f:.]{2,45}\/[0-9]{1,3}$/);

/** Who calls, with the source of that knowledge: `key:acme`, `caller:user:123`, `header:x`, `ip:203.0.113.9`. */
export const consumerId = z
  .string()
  .max(264)
  .regex(/^(key|caller|header|ip):[!-~]{1,256}$/);

/** Who a consumer belongs to. */
export const tenantId = z
  .string()
  .max(128)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._:@-]*$/);

export const match = z
  .strictObject({
    paths: mapList(path, ['type', 'value'], { min: 1, max: 16 }).optional().describe('Any of these paths.'),
    methods: setList(z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'CONNECT', 'TRACE']), {
      min: 1,
      max: 9,
    })
      .optional()
      .describe('Any of these methods. GET also matches HEAD.'),
    hosts: setList(host, { min: 1, max: 16 })
      .optional()
      .describe('Any of these hosts, without a port. "*.example.com" is every host below example.com.'),
    headers: mapList(header, ['name'], { min: 1, max: 8 }).optional().describe('All of these conditions on headers.'),
    sourceCIDRs: setList(cidr, { min: 1, max: 32 })
      .optional()
      .describe('Any of these networks, by the address of the client: 203.0.113.0/24 or 2001:db8::/32.'),
    attributes: mapList(attribute, ['name'], { min: 1, max: 8 })
      .optional()
      .describe('All of these conditions on attributes that the caller gave.'),
    tiers: setList(label, { min: 1, max: 16 })
      .optional()
      .describe('Any of these tiers: the tier of the request, else the default tier of the policy.'),
    tenants: setList(tenantId, { min: 1, max: 32 }).optional().describe('Any of these tenants.'),
    consumers: setList(consumerId, { min: 1, max: 32 })
      .optional()
      .describe(
        'Any of these consumers, with the source of their identity: key:acme, caller:user:123, ip:203.0.113.9.',
      ),
  })
  .describe('Which requests: every kind of matcher that is given must match. Absent: every request of the domain.');

export type PathMatcher = z.output<typeof path>;
export type HeaderMatcher = z.output<typeof header>;
export type AttributeMatcher = z.output<typeof attribute>;
export type Match = z.output<typeof match>;
