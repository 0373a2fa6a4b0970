// An application on the cluster: a pod that asks for decisions, and its policies.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'vitest';
import { aNamespace, apply, CALLERS, cleanUp, IMAGE, kubectl, NAMESPACE, type Pod, untilReady } from './cluster.ts';

export const SERVICE = `http://sluice-limiter.${NAMESPACE}/v1/decision/check`;

export type Answer = {
  readonly http?: number;
  readonly action?: string;
  readonly reason?: string;
  readonly mode?: string;
  readonly limit?: number;
  readonly error?: string;
};
export type Load = {
  readonly counts: Readonly<Record<string, number>>;
  readonly failures: readonly { readonly atMillis: number; readonly outcome: string }[];
};
export type Pace = { readonly workers: number; readonly pauseMillis: number };
const PACE: Pace = { workers: 8, pauseMillis: 40 };

let loads = 0;

/** Starts a pod that plays an application; it has the image of Sluice because that is there, and has a node. */
export async function startCaller(): Promise<void> {
  const script = readFileSync(join(import.meta.dirname, 'caller.cjs'), 'utf8');
  const hardened = { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } };
  await apply(
    aNamespace(CALLERS, { 'sluice.dev/caller': 'true' }),
    {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: 'caller', namespace: CALLERS },
      data: { 'caller.cjs': script },
    },
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'caller', namespace: CALLERS },
      spec: {
        terminationGracePeriodSeconds: 0,
        securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } },
        containers: [
          {
            name: 'caller',
            image: IMAGE,
            command: ['node', '--eval', 'setInterval(() => {}, 1e6)'],
            securityContext: hardened,
            volumeMounts: [
              { name: 'script', mountPath: '/caller' },
              { name: 'state', mountPath: '/state' },
            ],
          },
        ],
        volumes: [
          { name: 'script', configMap: { name: 'caller' } },
          { name: 'state', emptyDir: {} },
        ],
      },
    },
  );
  await kubectl(['wait', '--for=condition=Ready', '-n', CALLERS, 'pod/caller', '--timeout=60s']);
}

/** Only a bound for one that hangs: load goes on for as long as what is done under it. */
const CALLER_MILLIS = 3_600_000;

const inCaller = (...args: string[]): Promise<string> =>
  kubectl(['exec', '-n', CALLERS, 'caller', '--', 'node', '/caller/caller.cjs', ...args], undefined, CALLER_MILLIS);

/** Asks for decisions from another pod, one after another. */
export async function ask(body: object, times = 1, url = SERVICE): Promise<Answer[]> {
  return JSON.parse(await inCaller('ask', url, JSON.stringify(body), String(times))) as Answer[];
}

/** When each of the limiters first says this mode, by the clock of the machine. */
export async function momentsOfMode(pods: readonly Pod[], body: object, mode: string): Promise<number[]> {
  const urls = pods.map(({ ip }) => `http://${ip}:8080/v1/decision/check`);
  return JSON.parse(await inCaller('watch', urls.join(','), JSON.stringify(body), mode)) as number[];
}

/** Constant load from another pod, from before something begins until after it has ended. */
export async function loadDuring(body: object, pace: Pace, change: () => Promise<unknown>): Promise<Load> {
  const stopFile = `/state/stop-${(loads += 1)}`;
  const args = [JSON.stringify(body), stopFile, String(pace.workers), String(pace.pauseMillis)];
  const running = inCaller('load', SERVICE, ...args);
  // Awaited below; until then an early end is no crash of the tests.
  running.catch(() => undefined);
  const stop = () =>
    kubectl(['exec', '-n', CALLERS, 'caller', '--', 'node', '-e', `fs.writeFileSync('${stopFile}', '')`]);
  try {
    await pause(2_000);
    await change();
    await pause(2_000);
  } finally {
    await stop();
  }
  return JSON.parse(await running) as Load;
}

/** A policy of the callers, in a domain of its own, whose one rule counts by consumer over an hour. */
export const aPolicy = (name: string, requests: number, rule: object = {}): object => ({
  apiVersion: 'sluice.dev/v1alpha1',
  kind: 'RateLimitPolicy',
  metadata: { name, namespace: CALLERS },
  spec: {
    domain: `${CALLERS}.${name}`,
    rules: [
      {
        name: 'per-consumer',
        countBy: ['consumer'],
        algorithm: 'SlidingWindow',
        limits: [{ windowSeconds: 3_600, requests }],
        ...rule,
      },
    ],
  },
});

export const inDomain = (name: string, consumer: string): object => ({ domain: `${CALLERS}.${name}`, consumer });

/**
 * Runs something while the application asks, with a limit of its own: no request may fail, and exactly as many pass as
 * the limit says.
 */
export async function expectNothingLost(name: string, change: () => Promise<unknown>): Promise<void> {
  await apply(aPolicy(name, 100));
  await untilReady('ratelimitpolicy', name);
  const { counts, failures } = await loadDuring(inDomain(name, 'carol'), PACE, change);
  console.log(name, JSON.stringify(counts));
  expect(failures).toEqual([]);
  expect(counts['WITHIN_LIMIT']).toBe(100);
  expect(Object.keys(counts).toSorted()).toEqual(['RATE_LIMIT_EXCEEDED', 'WITHIN_LIMIT']);
}

/** Nothing is left of an earlier run, and there are two namespaces and a caller. */
export async function prepare(): Promise<void> {
  await cleanUp();
  await apply(aNamespace(NAMESPACE));
  await startCaller();
}
