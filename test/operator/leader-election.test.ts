import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { pino } from 'pino';
import { ApiClient } from '../../operator/kubernetes/api-client.ts';
import { loadKubeConfig } from '../../operator/kubernetes/connection.ts';
import { type ElectionTimes, LeaderElection } from '../../operator/kubernetes/leader-election.ts';
import { type ControlPlane, startControlPlane } from '../control-plane/control-plane.ts';
import { eventually } from '../harness/eventually.ts';

let controlPlane: ControlPlane;
let client: ApiClient;
/** How often candidates have looked at a lease. */
let looks = 0;
beforeAll(async () => {
  controlPlane = await startControlPlane();
  client = new ApiClient(loadKubeConfig(controlPlane.kubeconfigPath), {
    observer: {
      onRequest: ({ method }) => {
        if (method === 'GET') looks += 1;
      },
      onRateLimited: () => undefined,
      onRetry: () => undefined,
    },
  });
});
afterAll(async () => {
  await client.close();
  await controlPlane.stop();
});

/** Long enough that a slow machine never loses a lease, unless a test moves the clock. */
const TIMES: ElectionTimes = { leaseMillis: 90_000, renewMillis: 60_000, retryMillis: 100 };

type Candidate = {
  readonly election: LeaderElection;
  readonly told: string[];
  /** Moves this candidate's clock on. */
  advance(millis: number): void;
};

let candidates: Candidate[] = [];
afterEach(async () => {
  await Promise.all(candidates.map(({ election }) => election.release()));
  candidates = [];
});

function aCandidate(lease: string, identity: string): Candidate {
  let ahead = 0;
  const told: string[] = [];
  const election = new LeaderElection({
    client,
    lease: { namespace: 'default', name: lease },
    identity,
    log: pino({ level: 'silent' }),
    times: TIMES,
    monotonicMillis: () => performance.now() + ahead,
  });
  election.start({ onElected: () => told.push('elected'), onLost: (error) => told.push(`lost: ${error.message}`) });
  const candidate = {
    election,
    told,
    advance: (millis: number) => {
      ahead += millis;
    },
  };
  candidates.push(candidate);
  return candidate;
}

const untilElected = ({ election }: Candidate): Promise<void> => eventually(() => expect(election.isHeld()).toBe(true));

/** A look that began after this was called has ended. */
async function untilLookedAt(): Promise<void> {
  const before = looks;
  await eventually(() => expect(looks).toBeGreaterThanOrEqual(before + 2));
}

async function leaseOf(name: string): Promise<Record<string, unknown>> {
  const lease: unknown = JSON.parse(await controlPlane.kubectl(['get', 'lease', name, '-o', 'json']));
  return (lease as { spec: Record<string, unknown> }).spec;
}

const renewals = async (name: string): Promise<unknown> => (await leaseOf(name))['renewTime'];

describe('the candidates of one lease', () => {
  it('have one leader, whose term is numbered, and a successor as soon as it releases', async () => {
    const first = aCandidate('orderly', 'one');
    await untilElected(first);
    expect(await leaseOf('orderly')).toMatchObject({
      holderIdentity: 'one',
      leaseTransitions: 1,
      leaseDurationSeconds: 90,
    });
    const second = aCandidate('orderly', 'two');
    const before = await renewals('orderly');
    await eventually(async () => expect(await renewals('orderly')).not.toEqual(before));
    expect(second.election.isHeld()).toBe(false);
    await expect(second.election.epochAbove(0)).rejects.toMatchObject({ code: 'LEADERSHIP_LOST' });
    expect(await first.election.epochAbove(0)).toBe(1);
    await first.election.release();
    await untilElected(second);
    expect(await second.election.epochAbove(0)).toBe(2);
    expect(first.told).toEqual(['elected']);
  });

  it('take over from a dead one when its lease has stood still for a whole duration of their own clock', async () => {
    const dead = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: 'dead', namespace: 'default' },
      spec: {
        holderIdentity: 'dead',
        leaseTransitions: 6,
        leaseDurationSeconds: 90,
        // By its own clock this was long ago, or is yet to come: it means nothing here.
        acquireTime: '2001-01-01T00:00:00.000000Z',
        renewTime: '2001-01-01T00:00:00.000000Z',
      },
    };
    await controlPlane.kubectl(['create', '-f', '-'], { stdin: JSON.stringify(dead) });
    const candidate = aCandidate('dead', 'three');
    const later = { ...dead, spec: { ...dead.spec, renewTime: '2999-01-01T00:00:00.000000Z' } };
    await untilLookedAt();
    candidate.advance(TIMES.leaseMillis - 30_000);
    await controlPlane.kubectl(['replace', '-f', '-'], { stdin: JSON.stringify(later) });
    // It has been seen renewed now: its time begins anew.
    await untilLookedAt();
    candidate.advance(TIMES.leaseMillis - 30_000);
    await untilLookedAt();
    expect(candidate.election.isHeld()).toBe(false);
    candidate.advance(60_000);
    await untilElected(candidate);
    expect(await leaseOf('dead')).toMatchObject({ holderIdentity: 'three', leaseTransitions: 7 });
  });

  it('raise the number of their term above the highest that was ever used', async () => {
    const leader = aCandidate('raised', 'one');
    await untilElected(leader);
    expect(await leader.election.epochAbove(41)).toBe(42);
    expect(await leader.election.epochAbove(41)).toBe(42);
    expect(await leaseOf('raised')).toMatchObject({ holderIdentity: 'one', leaseTransitions: 42 });
    expect(leader.election.isHeld()).toBe(true);
  });

  it('are lost for good when another one has taken the lease', async () => {
    const leader = aCandidate('taken', 'one');
    await untilElected(leader);
    const patch = { spec: { holderIdentity: 'thief', leaseTransitions: 9 } };
    await controlPlane.kubectl(['patch', 'lease', 'taken', '--type=merge', '-p', JSON.stringify(patch)]);
    await eventually(() => expect(leader.told).toEqual(['elected', 'lost: the lease was taken by "thief"']));
    expect(leader.election.isHeld()).toBe(false);
    await expect(leader.election.epochAbove(0)).rejects.toMatchObject({ code: 'LEADERSHIP_LOST' });
    await leader.election.release();
    expect(await leaseOf('taken')).toMatchObject({ holderIdentity: 'thief' });
  });

  it('are lost after a sleep that was longer than their time, before they do anything else', async () => {
    const leader = aCandidate('slept', 'one');
    await untilElected(leader);
    leader.advance(TIMES.renewMillis);
    expect(leader.election.isHeld()).toBe(false);
    await eventually(() => expect(leader.told).toEqual(['elected', 'lost: the lease could not be renewed in time']));
  });

  it('keep their term when the lease is deleted under them, or edited by somebody', async () => {
    const leader = aCandidate('deleted', 'one');
    await untilElected(leader);
    await leader.election.epochAbove(11);
    await controlPlane.kubectl(['delete', 'lease', 'deleted']);
    await eventually(async () =>
      expect(await leaseOf('deleted')).toMatchObject({ holderIdentity: 'one', leaseTransitions: 12 }),
    );
    await controlPlane.kubectl(['label', 'lease', 'deleted', 'edited=yes']);
    const before = await renewals('deleted');
    await eventually(async () => expect(await renewals('deleted')).not.toEqual(before));
    expect(leader.told).toEqual(['elected']);
  });
});
