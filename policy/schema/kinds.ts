import type { z } from 'zod';
import { consumerSpec, consumerStatus } from './consumer.ts';
import { rateLimitDomainSpec, rateLimitDomainStatus } from './rate-limit-domain.ts';
import { rateLimitOverrideSpec, rateLimitOverrideStatus } from './rate-limit-override.ts';
import { rateLimitPolicySpec, rateLimitPolicyStatus } from './rate-limit-policy.ts';
import { systemHealthSpec, systemHealthStatus } from './system-health.ts';

export type PrinterColumn = {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'date';
  readonly jsonPath: string;
  readonly description?: string;
  readonly priority?: number;
};

export type KindDefinition = {
  readonly plural: string;
  readonly scope: 'Namespaced' | 'Cluster';
  readonly shortNames: readonly string[];
  readonly description: string;
  readonly spec: z.ZodType;
  readonly status: z.ZodType;
  readonly columns: readonly PrinterColumn[];
};

const ready = conditionColumn('Ready', 'In order: enforced as written, or knowingly not.');
const accepted = conditionColumn('Accepted', 'Whether the spec is valid.');
const age: PrinterColumn = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' };

/** Everything that differs between the kinds of resources, once. */
export const resourceKinds = {
  RateLimitPolicy: {
    plural: 'ratelimitpolicies',
    scope: 'Namespaced',
    shortNames: ['rlp'],
    description: 'Limits of one domain: which requests, counted by what, how many.',
    spec: rateLimitPolicySpec,
    status: rateLimitPolicyStatus,
    columns: [
      {
        name: 'Domain',
        type: 'string',
        jsonPath: '.spec.domain',
        description: 'The protected domain; the namespace if empty.',
      },
      accepted,
      conditionColumn('Enforced', 'Whether every ready limiter pod acknowledged it.'),
      {
        name: 'State',
        type: 'string',
        jsonPath: '.status.conditions[?(@.type=="Enforced")].reason',
        description: 'Enforced, in Shadow, or why it is not enforced.',
      },
      { name: 'Pods', type: 'integer', jsonPath: '.status.pods.acknowledged', description: 'Pods that enforce it.' },
      {
        name: 'Active',
        type: 'integer',
        jsonPath: '.status.activeGeneration',
        description: 'The generation that is enforced.',
        priority: 1,
      },
      {
        name: 'Revision',
        type: 'integer',
        jsonPath: '.status.revision',
        description: 'The revision that brought it.',
        priority: 1,
      },
      ready,
      age,
    ],
  },
  RateLimitDomain: {
    plural: 'ratelimitdomains',
    scope: 'Namespaced',
    shortNames: ['rld'],
    description: 'What is one for a whole domain: how it is known who calls, and who may attach policies.',
    spec: rateLimitDomainSpec,
    status: rateLimitDomainStatus,
    columns: [
      {
        name: 'Partition',
        type: 'string',
        jsonPath: '.spec.partitionBy',
        description: 'What spreads the counters over Redis Cluster.',
        priority: 1,
      },
      accepted,
      conditionColumn('Enforced', 'Whether every ready limiter pod acknowledged it.'),
      ready,
      age,
    ],
  },
  RateLimitOverride: {
    plural: 'ratelimitoverrides',
    scope: 'Namespaced',
    shortNames: ['rlo'],
    description: 'Other limits of one policy for one consumer, tenant or client, for a time.',
    spec: rateLimitOverrideSpec,
    status: rateLimitOverrideStatus,
    columns: [
      { name: 'Policy', type: 'string', jsonPath: '.spec.policyRef.name', description: 'The policy.' },
      { name: 'Action', type: 'string', jsonPath: '.spec.action', description: 'What it does.' },
      { name: 'Until', type: 'string', jsonPath: '.spec.expiresAt', description: 'When it ends by itself.' },
      {
        name: 'State',
        type: 'string',
        jsonPath: '.status.conditions[?(@.type=="Enforced")].reason',
        description: 'Whether it holds now.',
      },
      { name: 'Reason', type: 'string', jsonPath: '.spec.reason', priority: 1 },
      { name: 'Ticket', type: 'string', jsonPath: '.spec.ticket', priority: 1 },
      ready,
      age,
    ],
  },
  SystemHealth: {
    plural: 'systemhealths',
    scope: 'Cluster',
    shortNames: ['syshealth'],
    description: 'The declared health of the system: NORMAL, or DEGRADED while an incident lasts.',
    spec: systemHealthSpec,
    status: systemHealthStatus,
    columns: [
      { name: 'Mode', type: 'string', jsonPath: '.spec.mode', description: 'The mode as declared.' },
      { name: 'Effective', type: 'string', jsonPath: '.status.effectiveMode', description: 'The mode in force.' },
      { name: 'Until', type: 'string', jsonPath: '.spec.expiresAt', description: 'When it ends by itself.' },
      {
        name: 'Policies',
        type: 'integer',
        jsonPath: '.status.affectedPolicies',
        description: 'Policies degraded by it.',
      },
      { name: 'Reason', type: 'string', jsonPath: '.spec.reason', priority: 1 },
      ready,
      age,
    ],
  },
  Consumer: {
    plural: 'consumers',
    scope: 'Namespaced',
    shortNames: ['slc'],
    description: 'Who calls the domains of this namespace: identity, tier and API keys.',
    spec: consumerSpec,
    status: consumerStatus,
    columns: [{ name: 'Tier', type: 'string', jsonPath: '.spec.tier' }, accepted, ready, age],
  },
} as const satisfies Record<string, KindDefinition>;

export type ResourceKind = keyof typeof resourceKinds;

export const allKinds: readonly ResourceKind[] = [
  'RateLimitPolicy',
  'RateLimitDomain',
  'RateLimitOverride',
  'SystemHealth',
  'Consumer',
];

function conditionColumn(type: string, description: string): PrinterColumn {
  return { name: type, type: 'string', jsonPath: `.status.conditions[?(@.type=="${type}")].status`, description };
}
