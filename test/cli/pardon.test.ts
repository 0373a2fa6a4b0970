import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestLimiter, targetOn, type TestLimiter, untilRevision } from '../harness/limiter.ts';
import { startSluice } from '../harness/processes.ts';
import { aPolicy, publishEntries } from '../harness/publish.ts';
import { type PrivateRedis, privateRedis } from '../harness/redis.ts';

let server: PrivateRedis;
let limiter: TestLimiter;
beforeAll(async () => {
  server = await privateRedis();
  await publishEntries(targetOn(server), [
    aPolicy({
      domain: 'payments',
      rules: [
        {
          name: 'all',
          countBy: ['consumer', 'tenant'],
          algorithm: 'TokenBucket',
          limits: [{ windowSeconds: 86_400, requests: 1 }],
        },
      ],
      penalty: {
        countBy: ['consumer', 'tenant'],
        tolerancePercent: 0,
        minSecondsPerStep: 0,
        tempBlock: { violations: 1, forSeconds: 86_400 },
      },
    }),
  ]);
  limiter = await startTestLimiter({ redisUrl: server.url });
  await untilRevision(limiter, 1);
});
afterAll(async () => {
  await limiter.stop();
  await server.stop();
});

async function pardon(...more: readonly string[]): Promise<readonly [number | null, string]> {
  const names = ['--domain', 'payments', '--policy', 'payments/policy'];
  const run = startSluice(['pardon', ...names, '--url', limiter.opsUrl, ...more]);
  return [await run.exited(), run.output().trim()];
}

describe('sluice pardon', () => {
  it('lifts a penalty, and says which', async () => {
    const mallory = { domain: 'payments', consumer: 'mallory', tenant: 'a=b' };
    for (let i = 0; i < 2; i += 1) await limiter.check(mallory);
    expect((await limiter.check(mallory)).body['reason']).toBe('PENALTY_TEMP_BLOCK');
    const subject = ['--subject', 'consumer=caller:mallory', '--subject', 'tenant=a=b'];
    expect(await pardon(...subject, '--reason', 'a mistake')).toEqual([0, 'lifted: the state was TEMP_BLOCK']);
    expect((await limiter.check({ ...mallory, mode: 'peek' })).body['penalty']).toBe('NORMAL');
  });

  it.each<[string, readonly string[], number, string]>([
    ['the limiter refuses', ['--subject', 'tenant=a'], 1, 'must say exactly consumer'],
    ['nobody is named', ['--subject', 'mallory'], 2, 'Must be an axis'],
    [
      'no limiter is there',
      ['--subject', 'consumer=a', '--url', 'http://127.0.0.1:1'],
      1,
      'no limiter answers on http://127.0.0.1:1',
    ],
  ])('says why it did not, and ends with that code: %s', async (_title, words, code, why) => {
    expect(await pardon(...words)).toEqual([code, expect.stringContaining(why)]);
  });
});
