import type { z } from 'zod';
import { isMappedIPv4, parseIP, parseNetwork } from './ip.ts';
import { policyProblems } from './policy-problems.ts';
import { problemsOf } from './problems.ts';
import {
  ownsDomain,
  type Problem,
  type RawResource,
  type ValidDomain,
  type ValidOverride,
  type ValidResource,
} from './resource.ts';
import { consumerSpec } from './schema/consumer.ts';
import { rateLimitDomainSpec } from './schema/rate-limit-domain.ts';
import { rateLimitOverrideSpec } from './schema/rate-limit-override.ts';
import { rateLimitPolicySpec } from './schema/rate-limit-policy.ts';
import { systemHealthSpec } from './schema/system-health.ts';

export type Validation =
  | { readonly ok: true; readonly resource: ValidResource }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/**
 * Everything that is wrong with one object by itself. Schema-level problems are those that the API server finds too;
 * the others (reasons DomainNotOwned, PathNotNormal, TooManyLimits, ...) need more than a schema can say.
 */
export function validate(raw: RawResource): Validation {
  const spec = withoutNulls(raw.spec);
  switch (raw.kind) {
    case 'RateLimitPolicy': {
      const parsed = rateLimitPolicySpec.safeParse(spec);
      if (!parsed.success) return refuse(spec, parsed.error);
      return accept({ kind: raw.kind, metadata: raw.metadata, spec: parsed.data });
    }
    case 'RateLimitDomain': {
      const parsed = rateLimitDomainSpec.safeParse(spec);
      if (!parsed.success) return refuse(spec, parsed.error);
      return accept({ kind: raw.kind, metadata: raw.metadata, spec: parsed.data });
    }
    case 'RateLimitOverride': {
      const parsed = rateLimitOverrideSpec.safeParse(spec);
      if (!parsed.success) return refuse(spec, parsed.error);
      return accept({ kind: raw.kind, metadata: raw.metadata, spec: parsed.data });
    }
    case 'SystemHealth': {
      const parsed = systemHealthSpec.safeParse(spec);
      if (!parsed.success) return refuse(spec, parsed.error);
      return accept({ kind: raw.kind, metadata: raw.metadata, spec: parsed.data });
    }
    case 'Consumer': {
      const parsed = consumerSpec.safeParse(spec);
      if (!parsed.success) return refuse(spec, parsed.error);
      return accept({ kind: raw.kind, metadata: raw.metadata, spec: parsed.data });
    }
  }
}

/** Null in a field is as good as no field: the API server drops it. In a list it stays, and is refused. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== 'object' || value === null) return value;
  const fields = Object.entries(value).filter(([, field]) => field !== null);
  return Object.fromEntries(fields.map(([key, field]) => [key, withoutNulls(field)]));
}

function accept(resource: ValidResource): Validation {
  const problems = problemsBeyondSchema(resource);
  return problems.length === 0 ? { ok: true, resource } : { ok: false, problems };
}

function problemsBeyondSchema(resource: ValidResource): Problem[] {
  switch (resource.kind) {
    case 'RateLimitPolicy':
      return policyProblems(resource);
    case 'RateLimitDomain':
      return domainProblems(resource);
    case 'RateLimitOverride':
      return overrideProblems(resource);
    case 'SystemHealth':
    case 'Consumer':
      return [];
  }
}

/** A domain belongs to the namespace whose name it begins with. */
function domainProblems({ metadata }: ValidDomain): Problem[] {
  const { namespace, name } = metadata;
  if (ownsDomain(namespace, name)) return [];
  const message = `"${name}" is not a domain of namespace "${namespace}": it must be "${namespace}" or begin with "${namespace}."`;
  return [{ path: 'metadata.name', reason: 'DomainNotOwned', message }];
}

function overrideProblems({ spec }: ValidOverride): Problem[] {
  const { clientIP } = spec.subject;
  if (clientIP === undefined || isOneAddress(clientIP)) return [];
  const message = `"${clientIP}" is not an address: write an IPv4 or IPv6 address`;
  return [{ path: 'spec.subject.clientIP', reason: 'InvalidAddress', message }];
}

/** An address, or a network of IPv6: the clients of a domain may be such. Of IPv4 they are single addresses. */
function isOneAddress(text: string): boolean {
  const network = parseNetwork(text);
  if (network === undefined) return parseIP(text) !== undefined;
  return network.bits === 128 || !isMappedIPv4(network.address);
}

function refuse(spec: unknown, error: z.ZodError): Validation {
  return { ok: false, problems: problemsOf(error, spec, 'spec') };
}
