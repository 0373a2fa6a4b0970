import type { RedisClient } from './connection.ts';
import { z } from 'zod';
import { type Head, parseHead } from './configuration.ts';
import type { Names } from './names.ts';
import { integerOf, textsOf } from './reply.ts';
import { loadScript } from './script.ts';

/** A pod is not counted when its last heartbeat is older. */
export const STALE_AFTER_MICROS = 8_000_000;
const FORGOTTEN_AFTER_MICROS = 60_000_000;

const acknowledgementSchema = z.object({
  pod: z.string(),
  /** New with every start of the process. */
  instance: z.string(),
  /** What the pod enforces; absent while it has no snapshot. */
  identity: z
    .object({ incarnation: z.string(), epoch: z.number(), revision: z.number(), manifest: z.string() })
    .optional(),
  /** Since when it enforces that manifest: time of Redis, microseconds. */
  sinceMicros: z.number().optional(),
  /** Formats of documents that it reads. */
  formats: z.array(z.number()),
  /** The state of the set of consumers' keys that it knows. */
  keySequence: z.number(),
  /** Whether it can decide by the counters; while it cannot, the failure policies decide. Absent: nothing is known. */
  decisions: z.enum(['ok', 'failing']).optional(),
  /** Why it does not enforce a newer revision, for people. */
  problem: z.string().optional(),
});

export type Acknowledgement = z.output<typeof acknowledgementSchema>;

export type PodReport = { readonly acknowledgement: Acknowledgement; readonly heartbeatMicros: number };

const acknowledgeScript = loadScript('acknowledge');
const listScript = loadScript('list-pods');

/** A pod's heartbeat. Returns head, the time of Redis and how many pods have reported lately; `isNew` announces it to the operator. */
export async function acknowledge(
  redis: RedisClient,
  names: Names,
  owner: string,
  beat: { readonly acknowledgement: Acknowledgement; readonly isNew: boolean },
): Promise<{ head: Head | undefined; redisMicros: number; pods: number }> {
  const { acknowledgement, isNew } = beat;
  const reply = textsOf(
    await acknowledgeScript.run(
      redis,
      [names.head, names.pods],
      [owner, acknowledgement.pod, JSON.stringify(acknowledgement), isNew ? 1 : 0, names.changes],
    ),
  );
  return { redisMicros: integerOf(reply[0]), pods: integerOf(reply[1]), head: parseHead(reply.slice(2)) };
}

/** Takes a pod off the list, when it stops in good order. */
export async function withdraw(redis: RedisClient, names: Names, pod: string): Promise<void> {
  await redis.hdel(names.pods, pod);
}

/** The pods that reported in the last minute, and the time of Redis. */
export async function listPods(redis: RedisClient, names: Names): Promise<{ pods: PodReport[]; redisMicros: number }> {
  const reply = textsOf(await listScript.run(redis, [names.pods], [FORGOTTEN_AFTER_MICROS]));
  const pods: PodReport[] = [];
  for (let i = 2; i < reply.length; i += 2) {
    const report = parseReport(reply[i] ?? '');
    if (report !== undefined) pods.push(report);
  }
  return { pods, redisMicros: integerOf(reply[0]) };
}

/** A report that cannot be read is that of a pod which cannot be counted on: it is left out. */
function parseReport(stored: string): PodReport | undefined {
  const space = stored.indexOf(' ');
  try {
    const parsed = acknowledgementSchema.safeParse(JSON.parse(stored.slice(space + 1)));
    return parsed.success
      ? { acknowledgement: parsed.data, heartbeatMicros: integerOf(stored.slice(0, space)) }
      : undefined;
  } catch {
    return undefined;
  }
}
