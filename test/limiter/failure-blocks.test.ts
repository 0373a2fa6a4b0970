import { afterEach, beforeEach, expect, describe, it } from 'vitest';
import { listPenalties, pardon } from '../../store/pardon.ts';
import { partitionOf } from '../../policy/hash.ts';
import { eventually } from '../harness/eventually.ts';
import { type Json, metric, startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { aPolicy, publishEntries, type Target } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

let server: PrivateRedis;
let target: Target;
let limiter: TestLimiter;

beforeEach(async () => {
  server = await privateRedis();
  target = targetOn(server);
  await publishEntries(target, [
    aPolicy({
      rules: [
        {
          name: 'own',
          countBy: ['consumer'],
          algorithm: 'SlidingWindow',
          failurePolicy: 'Open',
          limits: [{ windowSeconds: 3_600, requests: 1 }],
        },
      ],
      penalty: {
        countBy: ['consumer'],
        tolerancePercent: 0,
        minSecondsPerStep: 0,
        tempBlock: { violations: 1, forSeconds: 600 },
      },
    }),
  ]);
  limiter = await startTestLimiter({ redisUrl: server.url });
  await untilRevision(limiter, 1);
});
afterEach(async () => {
  await limiter.stop();
  await server.stop();
});

const ask = async (consumer: string): Promise<Json> => (await limiter.check({ domain: 'payments', consumer })).body;

async function block(consumer: string): Promise<void> {
  const reasons = [await ask(consumer), await ask(consumer), await ask(consumer)].map(({ reason }) => reason);
  expect(reasons).toEqual(['WITHIN_LIMIT', 'RATE_LIMIT_EXCEEDED', 'PENALTY_TEMP_BLOCK']);
}

const REMEMBERED = 'sluice_remembered_denials_total';

describe('who is blocked', () => {
  it('stays so while Redis is away, on a pod that knows it; an open rule lets the others pass', async () => {
    await block('mallory');
    await server.stopServer();
    await eventually(async () => expect(await ask('alice')).toMatchObject({ reason: 'FAIL_OPEN' }));
    const answer = await ask('mallory');
    expect(answer).toMatchObject({ action: 'BLOCK', reason: 'PENALTY_TEMP_BLOCK', penalty: 'TEMP_BLOCK' });
    expect(answer['retry_after']).toBeGreaterThan(500);
  });

  it('is answered from memory, and no longer once pardoned', async () => {
    await block('mallory');
    // The announcements are heard when the subscription stands: a pardon before that is heeded a second later.
    for (let i = 0; i < 20; i += 1) expect(await ask('mallory')).toMatchObject({ action: 'BLOCK' });
    expect(await metric(limiter, REMEMBERED)).toBeGreaterThan(0);
    const partition = partitionOf('payments');
    const [listed] = await listPenalties(target.redis, target.names, partition, 10);
    await pardon(target.redis, target.names, { partition, subject: listed?.subject ?? '' });
    await eventually(async () => expect(await ask('mallory')).toMatchObject({ reason: 'RATE_LIMIT_EXCEEDED' }), 5_000);
  });
});
