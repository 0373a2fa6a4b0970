import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  type Acknowledgement,
  acknowledge,
  listPods,
  STALE_AFTER_MICROS,
  withdraw,
} from '../../store/acknowledgements.ts';
import { createNames } from '../../store/names.ts';
import { eventually } from '../harness/eventually.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';
import { redisMicros } from '../harness/redis-time.ts';

const names = createNames('default');

let server: PrivateRedis;
let redis: Redis;

beforeAll(async () => {
  server = await privateRedis();
  ({ redis } = server);
});
afterAll(() => server.stop());
beforeEach(async () => {
  await redis.flushall();
});

const anAcknowledgement = (pod: string, change: Partial<Acknowledgement> = {}): Acknowledgement => ({
  pod,
  instance: `instance of ${pod}`,
  identity: { incarnation: 'one', epoch: 3, revision: 5, manifest: 'm5' },
  sinceMicros: 1_790_000_000_000_000,
  formats: [1],
  keySequence: 7,
  ...change,
});

const beat = (acknowledgement: Acknowledgement, { owner = 'ours', isNew = false } = {}) =>
  acknowledge(redis, names, owner, { acknowledgement, isNew });

/** The acknowledgement of a pod whose last heartbeat was some time ago. */
async function plant(pod: string, ageMicros: number): Promise<void> {
  const heartbeat = (await redisMicros(redis)) - ageMicros;
  await redis.hset(names.pods, pod, `${heartbeat} ${JSON.stringify(anAcknowledgement(pod))}`);
}

const givenHead = (owner: string): Promise<number> =>
  redis.hset(names.head, { owner, incarnation: 'one', epoch: 3, revision: 5, manifest: 'm5' });

describe('a heartbeat', () => {
  it('is listed with what the pod enforces, at the time of Redis', async () => {
    const acknowledgement = anAcknowledgement('pod-a', { problem: 'revision 6 cannot be read' });
    const before = await redisMicros(redis);
    const { redisMicros: at } = await beat(acknowledgement);
    expect(at).toBeGreaterThanOrEqual(before);
    const { pods, redisMicros: listedAt } = await listPods(redis, names);
    expect(pods).toEqual([{ acknowledgement, heartbeatMicros: at }]);
    expect(listedAt).toBeGreaterThanOrEqual(at);
  });

  it('replaces the one before it', async () => {
    await beat(anAcknowledgement('pod-a'));
    const { redisMicros: at } = await beat(anAcknowledgement('pod-a', { keySequence: 8 }));
    const { pods } = await listPods(redis, names);
    expect(pods).toEqual([{ acknowledgement: anAcknowledgement('pod-a', { keySequence: 8 }), heartbeatMicros: at }]);
  });

  it('brings head back, or says that there is none', async () => {
    expect((await beat(anAcknowledgement('pod-a'))).head).toBeUndefined();
    await givenHead('ours');
    const head = { owner: 'ours', incarnation: 'one', epoch: 3, revision: 5, manifest: 'm5' };
    expect((await beat(anAcknowledgement('pod-a'))).head).toEqual(head);
  });

  it('is announced if it says something new, and only then', async () => {
    const listener = redis.duplicate();
    const announced: string[] = [];
    listener.on('message', (_channel, message) => announced.push(message));
    await listener.subscribe(names.changes);
    await beat(anAcknowledgement('pod-a'), { isNew: false });
    await beat(anAcknowledgement('pod-b'), { isNew: true });
    await eventually(() => expect(announced).toEqual(['ack pod-b']));
    listener.disconnect();
  });

  it('is not recorded, nor announced, on the Redis of another installation, whose head it brings', async () => {
    const listener = redis.duplicate();
    const announced: string[] = [];
    listener.on('message', (_channel, message) => announced.push(message));
    await listener.subscribe(names.changes);
    await givenHead('theirs');
    expect((await beat(anAcknowledgement('pod-a'), { isNew: true })).head).toMatchObject({ owner: 'theirs' });
    expect(await redis.exists(names.pods)).toBe(0);
    await redis.publish(names.changes, 'the end');
    await eventually(() => expect(announced).toEqual(['the end']));
    listener.disconnect();
  });
});

describe('the list of pods', () => {
  it('tells the age of a heartbeat, by which a silent pod is stale', async () => {
    await plant('fresh', STALE_AFTER_MICROS - 5_000_000);
    await plant('stale', STALE_AFTER_MICROS + 1);
    const { pods, redisMicros: now } = await listPods(redis, names);
    const isStale = pods.map(({ acknowledgement, heartbeatMicros }) => [
      acknowledgement.pod,
      now - heartbeatMicros > STALE_AFTER_MICROS,
    ]);
    expect(Object.fromEntries(isStale)).toEqual({ fresh: false, stale: true });
  });

  it('forgets a pod that was silent for a minute', async () => {
    await plant('quiet', 30_000_000);
    await plant('silent', 60_000_001);
    const { pods } = await listPods(redis, names);
    expect(pods.map(({ acknowledgement }) => acknowledgement.pod)).toEqual(['quiet']);
    expect(await redis.hkeys(names.pods)).toEqual(['quiet']);
  });

  it('forgets what is no heartbeat, and leaves out one that it cannot read', async () => {
    await beat(anAcknowledgement('pod-a'));
    const now = await redisMicros(redis);
    await redis.hset(names.pods, {
      'no heartbeat': 'text',
      'not JSON': `${now} {`,
      'of another version': `${now} {"pod":"pod-z","format":"new"}`,
    });
    const { pods } = await listPods(redis, names);
    expect(pods.map(({ acknowledgement }) => acknowledgement.pod)).toEqual(['pod-a']);
    expect((await redis.hkeys(names.pods)).toSorted()).toEqual(['not JSON', 'of another version', 'pod-a']);
  });

  it('loses a pod that withdraws', async () => {
    await beat(anAcknowledgement('pod-a'));
    await beat(anAcknowledgement('pod-b'));
    await withdraw(redis, names, 'pod-a');
    const { pods } = await listPods(redis, names);
    expect(pods.map(({ acknowledgement }) => acknowledgement.pod)).toEqual(['pod-b']);
  });
});
