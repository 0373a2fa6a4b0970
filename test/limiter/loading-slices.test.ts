import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KeyCache } from '../../limiter/key-cache.ts';
import { SnapshotLoader } from '../../limiter/load.ts';
import { SLICE_MILLIS } from '../../limiter/slices.ts';
import { listPods } from '../../store/acknowledgements.ts';
import { RedisClock } from '../../store/clock.ts';
import { eventually } from '../harness/eventually.ts';
import { OWNER, targetOn } from '../harness/limiter.ts';
import { aDomain, aHealth, anOverride, aPolicy, type Entry, publishEntries, type Target } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

const POLICIES = 1_000;

let server: PrivateRedis;
let target: Target;
let loader: SnapshotLoader;

/** Steps since the last rest: the clock of these tests goes on by 1 ms whenever it is looked at, once for each step. */
let steps = 0;
let allSteps = 0;
let mostSteps = 0;
let rests = 0;
let nowMillis = 0;
let onRest: () => Promise<void>;

beforeEach(async () => {
  server = await privateRedis();
  target = targetOn(server);
  steps = allSteps = mostSteps = rests = nowMillis = 0;
  onRest = () => Promise.resolve();
  const { redis, names } = target;
  loader = new SnapshotLoader({
    redis,
    names,
    clock: new RedisClock(),
    keys: new KeyCache({ find: () => Promise.resolve({ kind: 'unknown' }), monotonicMillis: () => nowMillis }),
    log: pino({ level: 'silent' }),
    owner: OWNER,
    pod: 'pod-a',
    instance: 'instance',
    isFailing: () => false,
    turns: { monotonicMillis: oneStepLater, rest },
  });
});
afterEach(async () => {
  await loader.stop();
  await server.stop();
});

function oneStepLater(): number {
  steps += 1;
  allSteps += 1;
  mostSteps = Math.max(mostSteps, steps);
  nowMillis += 1;
  return nowMillis;
}

async function rest(): Promise<void> {
  steps = 0;
  rests += 1;
  await onRest();
}

/** A policy in a domain of its own, or one of many in a shared one. */
const policyOf = (index: number, requests: number, isShared: boolean): Entry =>
  aPolicy(
    {
      domain: isShared ? 'payments' : `payments.d${index}`,
      rules: [
        {
          name: 'r',
          match: { paths: [{ type: 'Prefix', value: `/p${index}` }] },
          countBy: ['consumer'],
          algorithm: 'TokenBucket',
          limits: [{ windowSeconds: 60, requests }],
        },
      ],
    },
    `policy-${index}`,
  );

const policies = (requests: number, isShared = false, count = POLICIES): Entry[] =>
  Array.from({ length: count }, (_, index) => policyOf(index, requests, isShared));

const revision = (): number | undefined => loader.snapshot?.identity.revision;

const untilRevision = (wanted: number): Promise<void> => eventually(() => expect(revision()).toBe(wanted));

/** All limits that the snapshot has: more than one value if it is a mix. */
function enforcedRequests(): Set<number> {
  const found = new Set<number>();
  for (const { policies: members } of loader.snapshot?.domains.values() ?? []) {
    for (const { rules } of members) {
      for (const { limits } of rules) if (Array.isArray(limits)) for (const { requests } of limits) found.add(requests);
    }
  }
  return found;
}

describe('a configuration of very many policies', () => {
  it.each([
    ['each in a domain of its own', false],
    ['all in one domain', true],
  ])('is loaded a few steps at a time, and enforced whole or not at all: %s', async (_title, isShared) => {
    await publishEntries(target, policies(1, isShared));
    loader.start();
    await untilRevision(1);
    const restsOfFirst = rests;
    const seen = new Set<string>();
    onRest = async () => void seen.add(`${revision()}: ${[...enforcedRequests()].join()}`);
    await publishEntries(target, policies(2, isShared));
    loader.refresh();
    await untilRevision(2);
    expect([...seen]).toEqual(['1: 1']);
    expect([...enforcedRequests()]).toEqual([2]);
    // One look at the clock begins a slice, and each step has one.
    expect(mostSteps).toBeLessThanOrEqual(SLICE_MILLIS + 1);
    // Each document is read in a step, and has at least one when the index is built.
    expect(rests - restsOfFirst).toBeGreaterThan((2 * POLICIES) / (SLICE_MILLIS + 1));
  });

  it('takes over what did not change: of one edit only that document is fetched', async () => {
    const entries = policies(1);
    await publishEntries(target, entries);
    loader.start();
    await untilRevision(1);
    const before = loader.snapshot;
    await publishEntries(target, [policyOf(0, 2, false), ...entries.slice(1)]);
    loader.refresh();
    await untilRevision(2);
    const after = loader.snapshot;
    const taken = [...(after?.domains ?? [])].filter(([name, index]) => before?.domains.get(name) === index);
    expect(taken).toHaveLength(POLICIES - 1);
    expect(enforcedRequests()).toEqual(new Set([1, 2]));
  });

  it.each<[string, boolean, (entries: Entry[]) => Entry[]]>([
    ['an edit of one policy', false, (entries) => [policyOf(0, 2, false), ...entries.slice(1)]],
    ['an edit of one policy among many of its domain', true, (entries) => [policyOf(0, 2, true), ...entries.slice(1)]],
    ['an incident', false, (entries) => [...entries, aHealth({ mode: 'DEGRADED', reason: 'database overload' })]],
    [
      'an override',
      false,
      (entries) => [
        ...entries,
        anOverride({
          policyRef: { name: 'policy-7' },
          subject: { consumer: 'key:acme' },
          action: 'Exempt',
          expiresAt: '2099-01-01T00:00:00Z',
        }),
      ],
    ],
    ['settings of a domain', true, (entries) => [...entries, aDomain({})]],
  ])('takes few steps for %s', async (_title, isShared, change) => {
    const entries = policies(1, isShared);
    await publishEntries(target, entries);
    loader.start();
    await untilRevision(1);
    const before = loader.snapshot;
    allSteps = 0;
    await publishEntries(target, change(entries));
    loader.refresh();
    await untilRevision(2);
    // The entries of one part of the manifest, and little else: without what is held it would be thousands.
    expect(allSteps).toBeLessThan(POLICIES / 5);
    const concerned = [...(loader.snapshot?.domains ?? [])].filter(
      ([name, index]) => before?.domains.get(name) !== index,
    );
    expect(concerned.length).toBeLessThanOrEqual(1);
  });

  it('that another one replaces while it is loaded comes into force, and the other one after it', async () => {
    await publishEntries(target, policies(1));
    loader.start();
    await untilRevision(1);
    await publishEntries(target, policies(2));
    const seen: (number | undefined)[] = [];
    let isPublished = false;
    onRest = async () => {
      seen.push(revision());
      if (isPublished) return;
      isPublished = true;
      await publishEntries(target, policies(3));
      loader.refresh();
    };
    loader.refresh();
    await untilRevision(3);
    expect([...new Set(seen)]).toEqual([1, 2]);
    expect([...enforcedRequests()]).toEqual([3]);
  });

  it('does not keep the pod from saying that it is alive, and what it still enforces', async () => {
    await publishEntries(target, policies(1, false, 10));
    loader.start();
    await untilRevision(1);
    await publishEntries(target, policies(2, false, 10));
    let goOn: () => void = () => undefined;
    const isResting = new Promise<void>((rested) => {
      onRest = () =>
        new Promise((resolve) => {
          goOn = resolve;
          rested();
        });
    });
    loader.refresh();
    await isResting;
    // Whoever is not on the list can only have come back by a heartbeat.
    await target.redis.del(target.names.pods);
    try {
      await eventually(async () => {
        const { pods } = await listPods(target.redis, target.names);
        expect(pods).toMatchObject([{ acknowledgement: { pod: 'pod-a', identity: { revision: 1 } } }]);
      });
    } finally {
      // Else the loader never stops.
      onRest = () => Promise.resolve();
      goOn();
    }
    await untilRevision(2);
  });

  it('is let go of when the limiter stops', async () => {
    await publishEntries(target, policies(1));
    const isResting = new Promise<void>((resolve) => {
      onRest = async () => resolve();
    });
    loader.start();
    await isResting;
    await loader.stop();
    expect(loader.snapshot).toBeUndefined();
    expect(loader.problem).toBeUndefined();
  });
});
