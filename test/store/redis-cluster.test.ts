import { Cluster } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { partitionOf } from '../../policy/hash.ts';
import type { SelectedLimit } from '../../policy/selection.ts';
import { connect } from '../../store/connection.ts';
import { RedisClock } from '../../store/clock.ts';
import { Decider, type TimedVerdict } from '../../store/decide.ts';
import { DecideArguments, type DecideRequest, decodeVerdict } from '../../store/decide-wire.ts';
import { createNames } from '../../store/names.ts';
import { listPenalties, pardon } from '../../store/pardon.ts';
import { chargeOf, refund, refundAnonymously, rememberCharge, toCharged } from '../../store/refund.ts';
import { integerOf, textsOf } from '../../store/reply.ts';
import { loadScript } from '../../store/script.ts';
import { type PrivateCluster, privateCluster } from '../harness/redis-cluster.ts';
import { callsOf, resetCommandStats } from '../harness/command-stats.ts';
import { eventually } from '../harness/eventually.ts';
import { aLimit } from '../harness/limits.ts';
import { punishableRequest } from '../harness/penalties.ts';
import { aRule, plainRequest } from '../harness/plain.ts';

const names = createNames('cluster');
const script = loadScript('decide');
const DAY = 86_400;
const PARTITIONS = Array.from({ length: 1_000 }, (_, i) => partitionOf(`domain-${i}`));

let servers: PrivateCluster;
let cluster: Cluster;

beforeAll(async () => {
  servers = await privateCluster(3);
  const connected = connect(`redis+cluster://${servers.urls.map((url) => url.replace('redis://', '')).join(',')}`, {
    onDown: () => undefined,
    onReady: () => undefined,
  });
  if (!(connected instanceof Cluster)) throw new TypeError('a Cluster was asked for');
  cluster = connected;
  await eventually(() =>
    expect(cluster.nodes('master').map(({ status }) => status)).toEqual(['ready', 'ready', 'ready']),
  );
});
afterAll(async () => {
  cluster.disconnect();
  await servers.stop();
});
beforeEach(async () => {
  await Promise.all(servers.nodes.map(({ redis }) => redis.flushall()));
});

async function decide(request: DecideRequest): Promise<TimedVerdict> {
  const { keys, args } = new DecideArguments(names, [request]);
  const [micros, verdict] = textsOf(await script.run(cluster, keys, args));
  return { ...decodeVerdict(request, verdict ?? ''), redisMicros: integerOf(micros) };
}

const limitsOf = (subject: string): SelectedLimit[] =>
  (['TokenBucket', 'SlidingWindow', 'SlidingWindowLog'] as const).map((algorithm) =>
    aLimit({ algorithm, subject: `${subject}-${algorithm}`, capacity: 3, windowSeconds: DAY }),
  );

const countNodes = async (command: string): Promise<number[]> =>
  Promise.all(servers.nodes.map(({ redis }) => callsOf(redis, command)));

describe('a Redis Cluster of three', () => {
  it('counts a thousand partitions exactly, each in one slot, on all nodes', async () => {
    for (const expected of ['admitted', 'admitted', 'admitted', 'denied']) {
      const verdicts = await Promise.all(PARTITIONS.map((partition) => decide(plainRequest(partition, limitsOf('s')))));
      expect(new Set(verdicts.map(({ code }) => code))).toEqual(new Set([expected]));
    }
    const sizes = await Promise.all(servers.nodes.map(({ redis }) => redis.dbsize()));
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(3 * PARTITIONS.length);
    expect(Math.min(...sizes)).toBeGreaterThan(500);
  });

  it('decides a batch over many partitions at once, with one call for each', async () => {
    await Promise.all(servers.nodes.map(({ redis }) => resetCommandStats(redis)));
    const decider = new Decider(cluster, names, new RedisClock(), { deadlineMillis: 30_000 });
    const requests = PARTITIONS.slice(0, 50).flatMap((partition) =>
      Array.from({ length: 4 }, () => plainRequest(partition, limitsOf('s'))),
    );
    const verdicts = await Promise.all(requests.map((request) => decider.decide(request)));
    decider.stop();
    expect(verdicts.filter(({ code }) => code === 'admitted')).toHaveLength(150);
    const calls = [...(await countNodes('evalsha')), ...(await countNodes('eval'))];
    // Each node says once for each call that it does not know the script yet.
    expect(calls.reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(2 * 50);
  });

  it('is asked at the right node at once, without being sent elsewhere first', async () => {
    for (const partition of PARTITIONS.slice(0, 100)) await decide(plainRequest(partition, limitsOf('s')));
    await Promise.all(servers.nodes.map(({ redis }) => resetCommandStats(redis)));
    for (const partition of PARTITIONS.slice(0, 100)) await decide(plainRequest(partition, limitsOf('s')));
    expect((await countNodes('evalsha')).reduce((sum, calls) => sum + calls, 0)).toBe(100);
    const errors = await Promise.all(servers.nodes.map(({ redis }) => redis.info('errorstats')));
    expect(errors.join('')).not.toContain('errorstat_MOVED');
  });

  it('takes refunds, pardons and lists of every partition', async () => {
    for (const partition of PARTITIONS.slice(0, 60)) {
      const request = plainRequest(partition, limitsOf('s'), 2);
      const verdict = await decide(request);
      expect(await rememberCharge(cluster, names, `id ${partition}`, chargeOf(request, verdict))).toBe(true);
      expect(await refund(cluster, names, `id ${partition}`)).toBe('refunded');
      expect(await refund(cluster, names, `id ${partition}`)).toBe('unknown');
      expect((await decide(plainRequest(partition, limitsOf('s'), 3))).code).toBe('admitted');
      await refundAnonymously(cluster, names, { partition, limits: limitsOf('s').map((limit) => toCharged(limit, 1)) });
      expect((await decide(plainRequest(partition, limitsOf('s')))).code).toBe('admitted');
      const punished = { ...punishableRequest('alice'), partition };
      await decide(punished);
      await decide(punished);
      expect(await listPenalties(cluster, names, partition, 10)).toMatchObject([{ subject: 'alice', state: 'WARN' }]);
      expect(await pardon(cluster, names, { partition, subject: 'alice' })).toEqual({ before: 'WARN' });
      expect(await listPenalties(cluster, names, partition, 10)).toEqual([]);
    }
  });

  it('refuses what would touch two slots, before anything is written', async () => {
    const [one = '', other = ''] = PARTITIONS;
    const keys = [names.counters(one, 'a'), names.counters(other, 'a')];
    await expect(script.run(cluster, keys, [0])).rejects.toMatchObject({
      message: expect.stringContaining('CROSSSLOT'),
    });
    const shared = { selection: { rules: [aRule(limitsOf('s'))], penalties: [] } };
    const { args } = new DecideArguments(names, [
      { partition: one, ...shared },
      { partition: other, ...shared },
    ]);
    await expect(script.run(cluster, keys, args)).rejects.toThrow('CROSSSLOT');
    expect(await Promise.all(servers.nodes.map(({ redis }) => redis.dbsize()))).toEqual([0, 0, 0]);
  });

  it('knows the scripts of no node after SCRIPT FLUSH, and counts exactly nevertheless [P21]', async () => {
    const partitions = PARTITIONS.slice(0, 30);
    for (let i = 0; i < 4; i += 1) {
      await Promise.all(servers.nodes.map(({ redis }) => redis.script('FLUSH')));
      for (const partition of partitions) {
        const { code } = await decide(plainRequest(partition, limitsOf('s')));
        expect(code).toBe(i < 3 ? 'admitted' : 'denied');
      }
    }
  });
});

describe('a slot of a Redis Cluster that moves [P25]', () => {
  it('is followed by MOVED and ASK, and its counters with it', async () => {
    const [partition = ''] = PARTITIONS;
    const limit = limitsOf('s').slice(0, 1);
    const [probe] = limit;
    const key = names.counters(partition, probe?.subject ?? '');
    expect((await decide(plainRequest(partition, limit))).code).toBe('admitted');
    const slot = Number(await servers.nodes[0]?.redis.call('CLUSTER', 'KEYSLOT', key));
    const sizes = await Promise.all(servers.nodes.map(({ redis }) => redis.dbsize()));
    const from = servers.nodes[sizes.indexOf(1)];
    const to = servers.nodes[(sizes.indexOf(1) + 1) % 3];
    if (from === undefined || to === undefined) throw new Error('no node has the key');
    const [fromId, toId] = await Promise.all([from, to].map(({ redis }) => redis.call('CLUSTER', 'MYID')));
    await to.redis.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', String(fromId));
    await from.redis.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', String(toId));
    await from.redis.call('MIGRATE', '127.0.0.1', to.port, key, 0, 5_000);
    // The key is gone from where the slot still is: ASK.
    expect((await decide(plainRequest(partition, limit))).code).toBe('admitted');
    for (const { redis } of [to, from, ...servers.nodes]) {
      await redis.call('CLUSTER', 'SETSLOT', slot, 'NODE', String(toId));
    }
    // The client still believes in the old place: MOVED.
    expect((await decide(plainRequest(partition, limit))).code).toBe('admitted');
    expect((await decide(plainRequest(partition, limit))).code).toBe('denied');
    expect(await to.redis.dbsize()).toBe(1);
    expect(await from.redis.info('errorstats')).toContain('errorstat_ASK');
  });
});

describe('a node of a Redis Cluster that is gone [P25]', () => {
  it('fails its own slots at once, and nothing is sent twice; the others are served', async () => {
    const [first, ...others] = servers.nodes;
    if (first === undefined) throw new Error('no node');
    await Promise.all(PARTITIONS.slice(0, 200).map((partition) => decide(plainRequest(partition, limitsOf('s')))));
    for (const { redis } of others) await redis.config('SET', 'cluster-require-full-coverage', 'no');
    await first.stopServer();
    const outcomes = await eventually(async () => {
      const settled = await Promise.allSettled(
        PARTITIONS.slice(0, 200).map((partition) => decide(plainRequest(partition, limitsOf('s')))),
      );
      if (settled.every(({ status }) => status === 'rejected')) throw new Error('none is served yet');
      return settled;
    });
    const failed = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(failed.length).toBeGreaterThan(20);
    expect(failed.length).toBeLessThan(150);
    for (const { reason } of failed) expect(reason).toMatchObject({ name: 'StoreError', transient: true });
  });
});
