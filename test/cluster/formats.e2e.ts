// From an earlier version to this one and back: documents in Redis have another format, and the definitions of resources
// another schema. Each step goes on where the one before it ended.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { aPolicy, expectNothingLost, prepare } from './caller.ts';
import {
  apply,
  cleanUp,
  deploy,
  get,
  helm,
  IMAGE,
  kubectl,
  NAMESPACE,
  OLDER,
  RELEASE,
  untilPods,
  untilReady,
  valuesWith,
} from './cluster.ts';

/** With an image of the user's own, both versions are that image. */
const isOtherFormat = OLDER.image !== IMAGE;

beforeAll(prepare);
afterAll(cleanUp);

/** A field that the earlier version's definition lacks. */
const withNewField = (): object => aPolicy('hidden', 5, { headers: 'Hide' });

async function schemaNumber(): Promise<number> {
  type Definition = { metadata: { annotations: Record<string, string> } };
  const { metadata } = await get<Definition>('crd', 'ratelimitpolicies.sluice.dev');
  return Number(metadata.annotations['sluice.dev/schema']);
}

/** The format of what is in force, read where the limiters read it. */
async function publishedFormat(): Promise<number> {
  const inRedis = async (...command: string[]): Promise<string> =>
    (await kubectl(['exec', '-n', NAMESPACE, 'deployment/sluice-redis', '--', 'redis-cli', ...command])).trim();
  const config = 'sluice:default:{config}';
  const manifest = await inRedis('hget', `${config}:head`, 'manifest');
  return (JSON.parse(await inRedis('get', `${config}:doc:${manifest}`)) as { format: number }).format;
}

async function expectEnforced(...names: string[]): Promise<void> {
  await untilPods('limiter', 2);
  for (const name of names) {
    const status = await untilReady('ratelimitpolicy', name);
    expect(status.conditions).toContainEqual(expect.objectContaining({ type: 'Enforced', status: 'True' }));
  }
}

describe('an earlier version', () => {
  let formatBefore: number;

  it('is enforced, and refuses a field that it does not know', async () => {
    await deploy(valuesWith(OLDER.image), OLDER.chart);
    await apply(aPolicy('kept', 20));
    await expectEnforced('kept');
    expect(await schemaNumber()).toBe(0);
    formatBefore = await publishedFormat();
    await expect(apply(withNewField())).rejects.toThrow('unknown field "headers"');
  });

  it('is upgraded under load without a lost request, with its definitions and the format of its documents', async () => {
    await expectNothingLost('forwards', () => deploy(valuesWith(IMAGE)));
    expect(await schemaNumber()).toBeGreaterThan(0);
    await apply(withNewField());
    await expectEnforced('kept', 'forwards', 'hidden');
    expect((await publishedFormat()) !== formatBefore).toBe(isOtherFormat);
  });

  it('comes back under load without a lost request when the upgrade is rolled back', async () => {
    await expectNothingLost('backwards', () => helm(['rollback', RELEASE, '--wait', '--timeout', '240s']));
    expect(await schemaNumber()).toBe(0);
    await expectEnforced('kept', 'forwards', 'backwards', 'hidden');
    expect(await publishedFormat()).toBe(formatBefore);
  });
});
