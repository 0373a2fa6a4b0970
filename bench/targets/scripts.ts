// The decision script by itself: processor time of Redis for each decision, in batches as a busy limiter sends them.
// Much less noisy than anything by the clock.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SelectedLimit, SelectedRule } from '../../policy/selection.ts';
import { DecideArguments, type DecideRequest } from '../../store/decide-wire.ts';
import { createNames } from '../../store/names.ts';
import { loadScript } from '../../store/script.ts';
import { aRule } from '../../test/harness/plain.ts';
import type { Figures } from '../figures.ts';
import { watchCalls } from '../redis-calls.ts';
import type { Rig } from '../rig.ts';
import { cpuSecondsOf } from '../stores.ts';
import { PENALTY } from '../worlds.ts';
import type { Target } from './target.ts';

const names = createNames('scripts');
const script = loadScript('decide');

const BATCH = 13;
const CALLS = 600;
const CALLS_AT_ONCE = 10;
const SUBJECTS = 500;

/** As long as the hashes that stand for subjects. */
const subjectOf = (rule: string, index: number): string => rule + String(index).padStart(21, '0');

function limit(subject: string, algorithm: SelectedLimit['algorithm'], capacity = 6_000_000): SelectedLimit {
  return {
    policy: 'p',
    rule: 'r',
    algorithm,
    subject,
    field: `field${subject.slice(0, 1)}`,
    windowSeconds: capacity === 1 ? 86_400 : 60,
    capacity,
    refill: capacity,
    normalCapacity: capacity,
    normalRefill: capacity,
    tier: undefined,
    mode: 'NORMAL',
    modeUntilMicros: undefined,
  };
}

function threeRules(kind: string, index: number, overrides: Partial<SelectedRule> = {}): SelectedRule[] {
  return (['TokenBucket', 'SlidingWindow', 'SlidingWindow'] as const).map((algorithm, rule) =>
    aRule([limit(subjectOf(`${'abc'[rule]}${kind}`, index), algorithm)], overrides),
  );
}

type RequestOf = (index: number) => DecideRequest;
const plain = (rules: readonly SelectedRule[]): DecideRequest => ({
  partition: 'p',
  selection: { rules, penalties: [] },
});

export const oneRule: RequestOf = (index) => plain([aRule([limit(subjectOf('a1', index), 'TokenBucket')])]);
const denied: RequestOf = (index) => plain([aRule([limit(subjectOf('z1', index), 'TokenBucket', 1)])]);
const penalised: RequestOf = (index) => ({
  partition: 'p',
  selection: {
    rules: threeRules('p', index, { penalty: 0 }),
    penalties: [
      { policy: 'p', subject: subjectOf('pp', index), text: 'p consumer=x', penalty: { ...PENALTY, enforced: true } },
    ],
  },
});

/** KEYS and ARGV of a call with one request. */
export const argumentsOf = (request: DecideRequest): Pick<DecideArguments, 'keys' | 'args'> =>
  new DecideArguments(names, [request]);

export const scriptText = script.text;

function batched(name: string, about: string, requestOf: RequestOf): Target {
  const call = (rig: Rig, first: number): Promise<unknown> => {
    const requests = Array.from({ length: BATCH }, (_, index) => requestOf((first + index) % SUBJECTS));
    const { keys, args } = new DecideArguments(names, requests);
    return script.run(rig.redis, keys, args);
  };
  return scriptTarget({ name, about, decisions: BATCH, call });
}

type ScriptSpec = Pick<Target, 'name' | 'about' | 'prepare'> & {
  /** Of each call. */
  readonly decisions: number;
  readonly call: (rig: Rig, first: number) => Promise<unknown>;
};

function scriptTarget({ decisions, call, ...rest }: ScriptSpec): Target {
  const measure = (rig: Rig): Promise<Figures> =>
    watchCalls(rig.redis, CALLS * decisions, () => cpuOf(rig, decisions, call));
  return { ...rest, measure };
}

async function cpuOf(rig: Rig, decisions: number, call: ScriptSpec['call']): Promise<Figures> {
  const before = await cpuSecondsOf([rig.redis], 'main');
  for (let done = 0; done < CALLS; done += CALLS_AT_ONCE) {
    rig.signal.throwIfAborted();
    await Promise.all(Array.from({ length: CALLS_AT_ONCE }, (_, index) => call(rig, (done + index) * decisions)));
  }
  const used = (await cpuSecondsOf([rig.redis], 'main')) - before;
  return { redisMicros: (used * 1e6) / (CALLS * decisions) };
}

const floorText = readFileSync(join(import.meta.dirname, '../servers/token-bucket.lua'), 'utf8');
const floorSha = createHash('sha1').update(floorText).digest('hex');

const floorScript = scriptTarget({
  name: 'script-floor',
  about: 'the token bucket of the comparison server, one call for each decision',
  prepare: async ({ redis }) => void (await redis.script('LOAD', floorText)),
  decisions: 1,
  call: ({ redis }, index) => redis.evalsha(floorSha, 1, `floor:${index % SUBJECTS}`, 6_000_000, 100_000, 1),
});

export const SCRIPT_TARGETS: readonly Target[] = [
  floorScript,
  batched('script-one', 'decide.lua: one token bucket', oneRule),
  batched('script-three', 'decide.lua: a token bucket and two sliding windows', (index) =>
    plain(threeRules('3', index)),
  ),
  batched('script-penalty', 'decide.lua: those three rules and a penalty', penalised),
  batched('script-denied', 'decide.lua: one empty token bucket', denied),
];
