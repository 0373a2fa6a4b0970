import { clientText, parseIP, parseNetwork } from './ip.ts';
import type { OverrideDocument } from './documents.ts';
import type { OverrideAction } from './schema/rate-limit-override.ts';
import type { Steps } from './steps.ts';

/** The overrides of one policy, by axis and value of their subject; strongest first, then by name. */
export type OverrideIndex = ReadonlyMap<string, readonly OverrideDocument[]>;

type Subjects = {
  readonly consumer?: string | undefined;
  readonly tenant?: string | undefined;
  readonly clientIP?: string | undefined;
};

const ORDER: readonly OverrideAction[] = ['Block', 'Exempt', 'Replace', 'Scale'];
const AXES = ['consumer', 'tenant', 'clientIP'] as const;
const NONE: readonly OverrideDocument[] = [];
const NOBODY: OverrideIndex = new Map();

/** An address as the domain counts it; undefined if the text is none. Both `2001:db8::1` and `2001:db8::/64` name it. */
export function overriddenClient(text: string, ipv6PrefixLength: number): string | undefined {
  const address = text.includes('/') ? parseNetwork(text)?.address : parseIP(text);
  return address === undefined ? undefined : clientText(address, ipv6PrefixLength);
}

export function* indexOverrides(
  overrides: ReadonlySet<OverrideDocument> | undefined,
  ipv6PrefixLength: number,
): Steps<OverrideIndex> {
  if (overrides === undefined) return NOBODY;
  const index = new Map<string, OverrideDocument[]>();
  for (const override of overrides) {
    const { axis, value } = override.subject;
    const text = axis === 'clientIP' ? (overriddenClient(value, ipv6PrefixLength) ?? value) : value;
    const key = `${axis} ${text}`;
    const others = index.get(key);
    if (others === undefined) index.set(key, [override]);
    else others.push(override);
    yield;
  }
  for (const ofOne of index.values()) {
    if (ofOne.length > 1) ofOne.sort(byStrength);
    yield;
  }
  return index;
}

/** Those that hold for a request at a time (microseconds, Redis' clock); strongest first. */
export function activeOverrides(
  index: OverrideIndex,
  subjects: Subjects,
  nowMicros: number,
): readonly OverrideDocument[] {
  if (index.size === 0) return NONE;
  const active = AXES.flatMap((axis) => {
    const value = subjects[axis];
    return value === undefined ? [] : (index.get(`${axis} ${value}`) ?? []);
  }).filter((override) => isActive(override, nowMicros));
  return active.toSorted(byStrength);
}

export function isActive(override: OverrideDocument, nowMicros: number): boolean {
  return override.startsAtMicros <= nowMicros && nowMicros < override.expiresAtMicros;
}

/** The strongest of those that speak of a rule. */
export function overrideFor(active: readonly OverrideDocument[], rule: string): OverrideDocument | undefined {
  for (const override of active) if (override.rules === undefined || override.rules.includes(rule)) return override;
  return undefined;
}

function byStrength(one: OverrideDocument, other: OverrideDocument): number {
  const difference = ORDER.indexOf(one.action) - ORDER.indexOf(other.action);
  if (difference !== 0) return difference;
  return one.name < other.name ? -1 : 1;
}
