// Which rules apply to a request, and with which numbers: slow, and written from the design alone. It reads specs as people
// write them, and shares no code with what it is compared with.
import type { Limit } from '../../policy/schema/limit.ts';
import type { Match } from '../../policy/schema/match.ts';
import type { RateLimitOverrideSpec } from '../../policy/schema/rate-limit-override.ts';
import type { RateLimitPolicySpec, Rule } from '../../policy/schema/rate-limit-policy.ts';
import type { SystemHealthSpec } from '../../policy/schema/system-health.ts';

/** 128 characters "0" and "1"; an IPv4 address begins with 80 zeros and 16 ones. */
export type Bits = string;

export type ModelRequest = {
  readonly path?: string | undefined;
  readonly method?: string | undefined;
  readonly host?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly attributes?: Readonly<Record<string, string>> | undefined;
  readonly address?: Bits | undefined;
  readonly consumer?: string | undefined;
  readonly tenant?: string | undefined;
  readonly tier?: string | undefined;
  readonly cost?: number | undefined;
  readonly isTrusted: boolean;
  readonly negotiated?: readonly { policy: string; rule: string; limits: readonly Limit[] }[] | undefined;
};

export type World = {
  /** By name; all in the namespace and for the domain `payments`. */
  readonly policies: Readonly<Record<string, { spec: RateLimitPolicySpec; labels: Readonly<Record<string, string>> }>>;
  readonly overrides: Readonly<Record<string, RateLimitOverrideSpec>>;
  readonly healths: readonly SystemHealthSpec[];
  readonly ipv6PrefixLength: number;
  readonly nowMillis: number;
  /** What a network or an address means: the bits that count. */
  readonly bitsOf: (text: string) => Bits;
};

export type ModelLimit = {
  readonly windowSeconds: number;
  readonly capacity: number;
  readonly refill: number;
  readonly normalCapacity: number;
  readonly normalRefill: number;
  readonly mode: string;
  readonly untilMillis: number | undefined;
};

export type ModelRule = {
  readonly rule: string;
  /** What it is charged with: '' = it is enforced. */
  readonly group: string;
  readonly cost: number;
  readonly isPunished: boolean;
  readonly after: readonly string[];
  /** Names and values of what it counts by. */
  readonly subject: readonly string[];
  readonly limits: readonly ModelLimit[];
};

export type Outcome = {
  readonly rules: readonly ModelRule[];
  readonly missing: readonly string[];
  readonly exemptions: readonly string[];
  readonly overrides: readonly string[];
  readonly blockedUntilMillis: number | undefined;
};

type Answer = 'yes' | 'no' | 'unknown';

/** What holds for a request, policy by policy in the order of their names. */
export function evaluate(world: World, request: ModelRequest): Outcome {
  const parts = Object.keys(world.policies)
    .toSorted()
    .map((name) => ofPolicy(world, name, request));
  const blocks = parts.flatMap(({ blockedUntilMillis }) =>
    blockedUntilMillis === undefined ? [] : [blockedUntilMillis],
  );
  return {
    rules: parts.flatMap(({ rules }) => rules),
    missing: parts.flatMap(({ missing }) => missing),
    exemptions: parts.flatMap(({ exemptions }) => exemptions),
    overrides: parts.flatMap(({ overrides }) => overrides),
    blockedUntilMillis: blocks.length === 0 ? undefined : Math.max(...blocks),
  };
}

function ofPolicy(world: World, name: string, request: ModelRequest): Outcome {
  const spec: RateLimitPolicySpec = world.policies[name]?.spec ?? { rules: [] };
  const tierNames = (spec.tiers ?? []).map((tier) => tier.name);
  const defaultTier = spec.tiers?.find((tier) => tier.default)?.name;
  const known = request.tier !== undefined && tierNames.includes(request.tier);
  const tier = known ? request.tier : (defaultTier ?? request.tier);
  const exemption = spec.exemptions?.find(({ match }) => meets(world, match, request, tier) === 'yes');
  if (exemption !== undefined) {
    return {
      rules: [],
      missing: [],
      overrides: [],
      exemptions: [`${name}/${exemption.name}`],
      blockedUntilMillis: undefined,
    };
  }
  const { found, ...judged } = ofRules(world, { name, spec, tier, request });
  const { penalty } = spec;
  if (penalty === undefined || spec.mode === 'Shadow' || !found.some(({ group }) => group === '')) {
    return { ...judged, rules: found, exemptions: [] };
  }
  const isPunished = penalty.countBy.every((axis) => valueOf(world, axis, request, undefined) !== undefined);
  return {
    ...judged,
    rules: found.map((rule) => ({ ...rule, isPunished: isPunished && rule.group === '' })),
    missing: isPunished ? judged.missing : [...judged.missing, `${name}/(penalty)`],
    exemptions: [],
  };
}

type Judged = Pick<Outcome, 'missing' | 'overrides' | 'blockedUntilMillis'> & { readonly found: readonly ModelRule[] };

function ofRules(world: World, given: Omit<Circumstances, 'rule' | 'override'>): Judged {
  const { name, spec, tier, request } = given;
  const found: ModelRule[] = [];
  const missing: string[] = [];
  const overrides: string[] = [];
  let blockedUntilMillis: number | undefined;
  for (const rule of spec.rules) {
    const id = `${name}/${rule.name}`;
    const answer = meets(world, rule.match, request, tier);
    if (answer === 'no') continue;
    const subject = answer === 'unknown' ? undefined : subjectOf(world, rule, request);
    if (subject === undefined) {
      missing.push(id);
      continue;
    }
    const group = groupOf(name, spec, rule);
    const override = strongest(world, name, rule.name, request);
    if (override !== undefined && group === '') {
      overrides.push(`${id} ${override.action}`);
      const end = Date.parse(override.expiresAt);
      if (override.action === 'Block') blockedUntilMillis = Math.max(blockedUntilMillis ?? 0, end);
      if (override.action === 'Block' || override.action === 'Exempt') continue;
    }
    const after = waitsFor(name, rule, group, found);
    const limits = limitsOf(world, { ...given, rule, override });
    if (after === 'in vain' || limits.length === 0) continue;
    found.push({ rule: id, group, cost: costOf(rule, request), isPunished: false, after, subject, limits });
  }
  return { found, missing, overrides, blockedUntilMillis };
}

/** All kinds ANDed, entries of a kind ORed. What one kind excludes is excluded, whatever is unknown to the others. */
function meets(world: World, match: Match | undefined, request: ModelRequest, tier: string | undefined): Answer {
  const { address, path } = request;
  const among = (list: readonly string[] | undefined, value: string | undefined): Answer =>
    list === undefined ? 'yes' : value === undefined ? 'unknown' : list.includes(value) ? 'yes' : 'no';
  const answers = new Set<Answer>([
    among(
      match?.methods?.flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method])),
      request.method,
    ),
    among(match?.tiers, tier),
    among(match?.tenants, request.tenant),
    among(match?.consumers, request.consumer),
    hostIn(match?.hosts, request.host),
    hasAll(match?.headers, request.headers),
    hasAll(match?.attributes, request.attributes),
    anyOf(match?.sourceCIDRs, address, (network, bits) => bits.startsWith(world.bitsOf(network))),
    anyOf(match?.paths, path, (wanted, asked) => isOnPath(wanted, asked)),
  ]);
  return answers.has('no') ? 'no' : answers.has('unknown') ? 'unknown' : 'yes';
}

function anyOf<T>(
  list: readonly T[] | undefined,
  value: string | undefined,
  test: (one: T, value: string) => boolean,
): Answer {
  if (list === undefined) return 'yes';
  if (value === undefined) return 'unknown';
  return list.some((one) => test(one, value)) ? 'yes' : 'no';
}

function hostIn(hosts: readonly string[] | undefined, host: string | undefined): Answer {
  return anyOf(hosts, host, (wanted, asked) => {
    if (!wanted.startsWith('*.')) return wanted === asked;
    const labels = asked.split('.');
    const parents = labels.map((_, index) => labels.slice(index).join('.')).slice(1);
    return parents.includes(wanted.slice(2));
  });
}

function hasAll(
  conditions: readonly { name: string; type: string; value?: string | undefined }[] | undefined,
  values: Readonly<Record<string, string>> | undefined,
): Answer {
  if (conditions === undefined) return 'yes';
  if (values === undefined) return 'unknown';
  const holds = conditions.every(({ name, type, value }) => {
    const has = Object.keys(values).includes(name);
    return type === 'Present' ? has : type === 'Absent' ? !has : has && values[name] === value;
  });
  return holds ? 'yes' : 'no';
}

function isOnPath({ type, value }: NonNullable<Match['paths']>[number], path: string): boolean {
  if (type === 'Exact') return path === value;
  if (type === 'Prefix') return path === value || path.startsWith(value.endsWith('/') ? value : `${value}/`);
  const pattern = value.split('/').map((segment) => (segment.startsWith('{') ? '[^/]+' : segment));
  return new RegExp(`^${pattern.join('/')}$`).test(path);
}

function routeOf(rule: Rule, path: string | undefined): string | undefined {
  return path === undefined ? undefined : rule.match?.paths?.find((one) => isOnPath(one, path))?.value;
}

function valueOf(world: World, axis: string, request: ModelRequest, route: string | undefined): string | undefined {
  const [kind = '', key = ''] = axis.split(':');
  switch (kind) {
    case 'global':
      return '';
    case 'route':
      return route;
    case 'clientIP':
      return request.address === undefined ? undefined : clientOf(world, request.address);
    case 'header':
      return request.headers?.[key];
    case 'attribute':
      return request.attributes?.[key];
    case 'method':
      return request.method;
    default:
      return kind === 'tenant' ? request.tenant : request.consumer;
  }
}

const IPV4 = '0'.repeat(80) + '1'.repeat(16);

/** An IPv4 address is one client, and so is a network of IPv6. */
function clientOf(world: World, bits: Bits): string {
  return bits.startsWith(IPV4) ? bits : bits.slice(0, world.ipv6PrefixLength);
}

function subjectOf(world: World, rule: Rule, request: ModelRequest): readonly string[] | undefined {
  const route = routeOf(rule, request.path);
  const pairs = rule.countBy.toSorted().map((axis) => [axis, valueOf(world, axis, request, route)]);
  return pairs.some(([, value]) => value === undefined) ? undefined : pairs.flat().map(String);
}

function groupOf(policy: string, spec: RateLimitPolicySpec, rule: Rule): string {
  if (spec.mode === 'Shadow') return policy;
  return rule.mode === 'Shadow' || rule.enforcePercent === 0 ? `${policy}/${rule.name}` : '';
}

/** The conditions that may still come about; none = it runs. On itself: it runs, and forgives the denials that follow. */
function waitsFor(
  policy: string,
  rule: Rule,
  group: string,
  before: readonly ModelRule[],
): readonly string[] | 'in vain' {
  if (rule.after === undefined) return [];
  const applies = (name: string): boolean =>
    before.some((one) => one.rule === `${policy}/${name}` && one.group === group);
  const open = rule.after.filter((wait) => applies(wait.rule)).map((wait) => `${policy}/${wait.rule} ${wait.outcome}`);
  if (rule.after.some((wait) => wait.outcome === 'NotMatched' && !applies(wait.rule))) {
    const denials = open.filter((wait) => wait.endsWith(' Denied'));
    return denials.length === 0 ? [] : [`${policy}/${rule.name} NotMatched`, ...denials];
  }
  return open.length === 0 ? 'in vain' : open;
}

function costOf({ cost }: Rule, request: ModelRequest): number {
  const said = cost?.header === undefined || !request.isTrusted ? undefined : request.headers?.[cost.header];
  const asked = said === undefined ? (request.cost ?? 1) : /^\d+$/.test(said) ? Number(said) : 0;
  return Math.min(cost?.max ?? 1_000_000, Math.max(cost?.default ?? 1, asked));
}

const STRENGTH = ['Block', 'Exempt', 'Replace', 'Scale'];

function strongest(
  world: World,
  policy: string,
  rule: string,
  request: ModelRequest,
): RateLimitOverrideSpec | undefined {
  const holding = Object.entries(world.overrides).filter(([, { policyRef, rules, subject, startsAt, expiresAt }]) => {
    const isNow =
      (startsAt === undefined || Date.parse(startsAt) <= world.nowMillis) && world.nowMillis < Date.parse(expiresAt);
    return isNow && policyRef.name === policy && (rules ?? [rule]).includes(rule) && isAbout(world, subject, request);
  });
  const ranked = holding.map(([name, spec]) => ({ rank: `${STRENGTH.indexOf(spec.action)} ${name}`, spec }));
  return ranked.toSorted((one, other) => (one.rank < other.rank ? -1 : 1))[0]?.spec;
}

function isAbout(world: World, subject: RateLimitOverrideSpec['subject'], request: ModelRequest): boolean {
  if (subject.clientIP !== undefined) {
    const { address } = request;
    return address !== undefined && clientOf(world, address) === clientOf(world, world.bitsOf(subject.clientIP));
  }
  return subject.tenant === undefined ? subject.consumer === request.consumer : subject.tenant === request.tenant;
}

type Circumstances = {
  readonly name: string;
  readonly spec: RateLimitPolicySpec;
  readonly rule: Rule;
  readonly tier: string | undefined;
  readonly request: ModelRequest;
  readonly override: RateLimitOverrideSpec | undefined;
};

/** value = override(mode's value); an override's own limits before negotiated ones, and those before the rule's. */
function limitsOf(world: World, { name, spec, rule, tier, request, override }: Circumstances): readonly ModelLimit[] {
  const own = rule.limits ?? spec.tiers?.find((one) => one.name === tier)?.limits ?? [];
  if (own.length === 0) return [];
  const agreed = request.negotiated?.find((one) => one.policy === `payments/${name}` && one.rule === rule.name)?.limits;
  const limits = override?.action === 'Replace' ? (override.limits ?? []) : (agreed ?? own);
  const incidents = incidentsOf(world, name, tier);
  const ends = incidents.map(({ expiresAt }) =>
    expiresAt === undefined ? Number.POSITIVE_INFINITY : Date.parse(expiresAt),
  );
  const until = Math.max(0, ...ends);
  const scale = (value: number, windowSeconds: number): number => {
    if (override?.action !== 'Scale' || value === 0) return value;
    const most = rule.algorithm === 'SlidingWindowLog' ? 1000 : Math.floor(9_007_199_254 / windowSeconds);
    return Math.min(most, Math.max(1, Math.floor((value * (override.percent ?? 100)) / 100)));
  };
  return limits.map(({ windowSeconds, requests, burst, degraded }) => {
    const isDegraded = incidents.length > 0;
    const left = degraded ?? requests;
    return {
      windowSeconds,
      capacity: scale(isDegraded ? left : (burst ?? requests), windowSeconds),
      refill: scale(isDegraded ? left : requests, windowSeconds),
      normalCapacity: scale(burst ?? requests, windowSeconds),
      normalRefill: scale(requests, windowSeconds),
      mode: isDegraded ? 'DEGRADED' : 'NORMAL',
      untilMillis: isDegraded && Number.isFinite(until) ? until : undefined,
    };
  });
}

function incidentsOf(world: World, policy: string, tier: string | undefined): readonly SystemHealthSpec[] {
  return world.healths.filter(({ mode, expiresAt, scope }) => {
    if (mode === 'NORMAL' || (expiresAt !== undefined && Date.parse(expiresAt) <= world.nowMillis)) return false;
    const wanted = Object.entries(scope?.policySelector?.matchLabels ?? {});
    const labels = world.policies[policy]?.labels ?? {};
    return (
      (scope?.domains ?? ['payments']).includes('payments') &&
      (scope?.tiers === undefined || (tier !== undefined && scope.tiers.includes(tier))) &&
      wanted.every(([key, value]) => labels[key] === value)
    );
  });
}
