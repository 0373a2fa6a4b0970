import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { listPods } from '../../store/acknowledgements.ts';
import { eventually } from '../harness/eventually.ts';
import { startTestLimiter, targetOn } from '../harness/limiter.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

let server: PrivateRedis;
beforeAll(async () => {
  server = await privateRedis();
});
afterAll(() => server.stop());

describe('a limiter that stops', () => {
  it('leaves the list of pods at once, and is not kept by a connection that never says anything', async () => {
    const { redis, names } = targetOn(server);
    const limiter = await startTestLimiter({ redisUrl: server.url, pod: 'leaving' });
    const podNames = async (): Promise<string[]> =>
      (await listPods(redis, names)).pods.map(({ acknowledgement }) => acknowledgement.pod);
    await eventually(async () => expect(await podNames()).toEqual(['leaving']));
    const silent = connect(Number(new URL(limiter.url).port), '127.0.0.1');
    await once(silent, 'connect');
    const closed = once(silent, 'close');
    await limiter.stop();
    await closed;
    expect(await podNames()).toEqual([]);
  });
});
