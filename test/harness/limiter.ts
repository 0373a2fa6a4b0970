import { pino } from 'pino';
import { startLimiter } from '../../limiter/limiter.ts';
import type { DoorSettings } from '../../limiter/door-settings.ts';
import { createNames } from '../../store/names.ts';
import { eventually } from './eventually.ts';
import type { Target } from './publish.ts';
import { freePort, type PrivateRedis } from './redis.ts';

export const OWNER = 'owner of the tests';
export const PEPPER = 'a pepper that is only for tests';

const INSTALLATION = 'default';

export type Json = Readonly<Record<string, unknown>>;

export type Answer = { readonly status: number; readonly headers: Headers; readonly body: Json };

export type TestLimiter = {
  readonly pod: string;
  readonly url: string;
  readonly opsUrl: string;
  readonly grpcAddress: string;
  /** POST /v1/decision/check. */
  check(body: Json, headers?: Readonly<Record<string, string>>): Promise<Answer>;
  /** Every line that it logged. */
  logged(): readonly Json[];
  stop(): Promise<void>;
};

export type TestLimiterOptions = {
  readonly redisUrl: string;
  readonly pod?: string;
  readonly port?: number;
  readonly owner?: string;
  readonly checkDomain?: string;
  /** Long by default, so that a slow machine is not taken for a slow Redis. */
  readonly redisDeadlineMillis?: number;
  readonly doors?: Partial<DoorSettings>;
  readonly snapshotUrl?: string;
  /** 0 where a test empties Redis between requests: a denial is remembered for up to a second. */
  readonly maxRememberedDenials?: number;
  readonly maxSubjectsPerRule?: number;
  readonly logAllowedPerSecond?: number;
  readonly logDeniedPerSecond?: number;
};

/** Where the limiters of these tests read their configuration. */
export function targetOn({ redis }: Pick<PrivateRedis, 'redis'>, owner = OWNER): Target {
  return { redis, names: createNames(INSTALLATION), owner };
}

/** A limiter in this process, on free ports. */
export async function startTestLimiter(options: TestLimiterOptions): Promise<TestLimiter> {
  const [port, grpcPort, opsPort] = [options.port ?? (await freePort()), await freePort(), await freePort()];
  const lines: Json[] = [];
  const pod = options.pod ?? 'pod-a';
  const limiter = await startLimiter({
    redisUrl: options.redisUrl,
    installation: INSTALLATION,
    owner: options.owner ?? OWNER,
    pod,
    pepper: PEPPER,
    host: '127.0.0.1',
    port,
    opsPort,
    checkDomain: options.checkDomain ?? 'payments',
    redisDeadlineMillis: options.redisDeadlineMillis ?? 20_000,
    doors: { grpcPort, ...options.doors },
    snapshotUrl: options.snapshotUrl,
    maxRememberedDenials: options.maxRememberedDenials,
    maxSubjectsPerRule: options.maxSubjectsPerRule,
    logAllowedPerSecond: options.logAllowedPerSecond,
    logDeniedPerSecond: options.logDeniedPerSecond,
    log: pino({ level: 'debug' }, { write: (line: string) => void lines.push(parse(line)) }),
  });
  const url = `http://127.0.0.1:${port}`;
  return {
    pod,
    url,
    opsUrl: `http://127.0.0.1:${opsPort}`,
    grpcAddress: `127.0.0.1:${grpcPort}`,
    check: (body, headers) => post(`${url}/v1/decision/check`, JSON.stringify(body), headers),
    logged: () => lines,
    stop: () => limiter.stop(),
  };
}

export async function post(url: string, body: string, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
  return answerOf(await fetch(url, { method: 'POST', body, headers }));
}

export async function get(url: string): Promise<Answer> {
  return answerOf(await fetch(url));
}

async function answerOf(response: Response): Promise<Answer> {
  return { status: response.status, headers: response.headers, body: parse(await response.text()) };
}

function parse(text: string): Json {
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null) throw new Error(`not a JSON object: ${text}`);
  return { ...value };
}

/** Waits until the limiter enforces this revision, and can reach the counters. */
export function untilRevision(limiter: TestLimiter, revision: number): Promise<void> {
  return eventually(async () => {
    const { body } = await get(`${limiter.url}/health`);
    if (body['revision'] !== revision) throw new Error(`${limiter.pod} is not at ${revision}: ${JSON.stringify(body)}`);
    const { status } = await get(`${limiter.opsUrl}/readyz`);
    if (status !== 200) throw new Error(`${limiter.pod} is not ready`);
  });
}

/** The value of one series of /metrics, named as it is printed there; 0 if it is not there. */
export async function metric(limiter: TestLimiter, series: string): Promise<number> {
  const text = await (await fetch(`${limiter.opsUrl}/metrics`)).text();
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `));
  return line === undefined ? 0 : Number(line.slice(series.length));
}
