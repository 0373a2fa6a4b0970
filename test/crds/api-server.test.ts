import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { allKinds, type ResourceKind, resourceKinds } from '../../policy/schema/kinds.ts';
import { validate } from '../../policy/validate.ts';
import { type ControlPlane, startControlPlane } from '../control-plane/control-plane.ts';
import { eventually } from '../harness/eventually.ts';
import { badCases, CASE_NAMESPACE, goodCases, resourceWith, semanticCases } from '../policy/cases.ts';
import { damagedSpecs } from '../policy/damaged-specs.ts';
import { fileOf } from './definitions.ts';
import { type Answer, RestClient } from './rest-client.ts';

let controlPlane: ControlPlane;
let client: RestClient;

beforeAll(async () => {
  controlPlane = await startControlPlane();
  client = await RestClient.connect(controlPlane);
  await controlPlane.kubectl(['apply', ...allKinds.flatMap((kind) => ['-f', fileOf(kind)])]);
  const names = allKinds.map((kind) => `crd/${resourceKinds[kind].plural}.sluice.dev`);
  await controlPlane.kubectl(['wait', '--for=condition=Established', '--timeout=60s', ...names]);
  await controlPlane.kubectl(['create', 'namespace', CASE_NAMESPACE]);
  // Established is not yet served: the handler of a new kind, and what kubectl knows of it, appear a moment later.
  for (const kind of allKinds) {
    await eventually(() => client.list(kind));
    await eventually(() => controlPlane.kubectl(['explain', resourceKinds[kind].plural]));
  }
});
afterAll(async () => {
  await client.close();
  await controlPlane.stop();
});

const RULE = {
  name: 'r',
  countBy: ['consumer'],
  algorithm: 'TokenBucket',
  limits: [{ windowSeconds: 60, requests: 5 }],
};

function tryToCreate(kind: ResourceKind, spec: unknown): Promise<Answer> {
  return client.create({ kind, name: 'under-test', spec }, { dryRun: true });
}

const SEMANTIC = new Set(semanticCases.map(({ reason }) => reason));

function reasonsAgainst(kind: ResourceKind, spec: unknown): string[] {
  const validation = validate(resourceWith(kind, spec));
  return validation.ok ? [] : validation.problems.map(({ reason }) => reason);
}

describe('the API server', () => {
  it.each(goodCases)('accepts what validate accepts: $kind: $name', async ({ kind, spec }) => {
    expect(await tryToCreate(kind, spec)).toMatchObject({ status: 201, fields: [] });
  });

  it.each(badCases)('refuses what validate refuses, at the same field: $kind: $name', async ({ kind, spec, path }) => {
    const { status, fields } = await tryToCreate(kind, spec);
    expect(status).toBe(422);
    expect(fields.filter((field) => isAtOrAbove(field, path))).not.toEqual([]);
  });

  it('agrees with validate about good specs in which one part is replaced', async () => {
    await fc.assert(
      fc.asyncProperty(damagedSpecs, async ({ kind, spec: damaged }) => {
        const spec: unknown = JSON.parse(JSON.stringify({ damaged })).damaged;
        const reasons = reasonsAgainst(kind, spec);
        // Where the API server drops a field, the two judge different specs.
        fc.pre(!reasons.includes('UnknownField'));
        const { status } = await tryToCreate(kind, spec);
        const isGood = reasons.every((reason) => SEMANTIC.has(reason));
        expect({ status, reasons }).toEqual({ status: isGood ? 201 : 422, reasons });
      }),
      { numRuns: 300 },
    );
  });

  it.each(semanticCases)('accepts what only validate can refuse: $kind: $name', async ({ kind, spec }) => {
    expect(await tryToCreate(kind, spec)).toMatchObject({ status: 201 });
  });

  it.each([
    ['RateLimitPolicy', { rules: [RULE] }, { burst: 5 }],
    ['SystemHealth', { mode: 'NORMAL' }, { expiry: 'tomorrow' }],
    ['Consumer', { tier: 'pro' }, { apiKeys: ['secret'] }],
  ] as const)('drops unknown fields of a %s, which validate refuses', async (kind, spec, unknown) => {
    const sent = { ...spec, ...unknown };
    expect((await tryToCreate(kind, sent)).object).toHaveProperty('spec', spec);
    expect(reasonsAgainst(kind, sent)).toEqual(['UnknownField']);
  });

  it('stores no field that is null', async () => {
    const { object } = await tryToCreate('Consumer', { id: null, tier: 'pro' });
    expect(object).toMatchObject({ spec: { tier: 'pro' } });
    expect(JSON.stringify(object)).not.toContain('null');
  });
});

describe('a new object', () => {
  it.each([
    ['RateLimitPolicy', { rules: [RULE] }],
    ['SystemHealth', { mode: 'NORMAL' }],
    ['Consumer', {}],
  ] as const)('of kind %s is not taken for finished before the operator has seen it', async (kind, spec) => {
    const { object } = await tryToCreate(kind, spec);
    expect(object).toMatchObject({ metadata: { generation: 1 }, status: { observedGeneration: -1 } });
  });
});

describe('kubectl', () => {
  it('explains every level of a policy', async () => {
    const explain = (path: string): Promise<string> => controlPlane.kubectl(['explain', path]);
    const rules = await explain('ratelimitpolicy.spec.rules');
    expect(rules).toContain('FIELD: rules <[]Object>');
    expect(rules).toMatch(/algorithm\s+<string> -required-\s+enum: TokenBucket, SlidingWindow/);
    expect(rules).toMatch(/countBy\s+<\[\]string> -required-\s+What shares one counter/);
    expect(await explain('rlp.spec.rules.limits.burst')).toContain('What may be taken at once');
    expect(await explain('systemhealth.spec.expiresAt')).toContain('From then on this object counts as NORMAL');
    expect(await explain('consumer.spec.apiKeyHashes')).toContain('Keys themselves are stored nowhere');
  });

  it('shows of a policy what is enforced', async () => {
    await client.create({ kind: 'RateLimitPolicy', name: 'shown', spec: { domain: 'payments.eu', rules: [RULE] } });
    const conditions = [condition('Accepted', 'True'), condition('Enforced', 'False'), condition('Ready', 'Unknown')];
    const status = { activeGeneration: 3, revision: 41, pods: { ready: 12, acknowledged: 11 }, conditions };
    await patchStatus('ratelimitpolicy/shown', status);
    expect(await table('rlp', 'shown')).toMatchObject({
      DOMAIN: 'payments.eu',
      ACCEPTED: 'True',
      ENFORCED: 'False',
      STATE: 'Test',
      PODS: '11',
      ACTIVE: '3',
      REVISION: '41',
      READY: 'Unknown',
      AGE: expect.any(String),
    });
    expect(await header('rlp')).toEqual(['NAME', 'DOMAIN', 'ACCEPTED', 'ENFORCED', 'STATE', 'PODS', 'READY', 'AGE']);
  });

  it('shows of a health object what is in force', async () => {
    const spec = { mode: 'DEGRADED', reason: 'overload', expiresAt: '2026-01-01T00:00:00Z' };
    await client.create({ kind: 'SystemHealth', name: 'shown', spec });
    const conditions = [condition('Ready', 'True')];
    await patchStatus('systemhealth/shown', { effectiveMode: 'NORMAL', affectedPolicies: 7, conditions });
    expect(await table('syshealth', 'shown')).toMatchObject({
      MODE: 'DEGRADED',
      EFFECTIVE: 'NORMAL',
      UNTIL: '2026-01-01T00:00:00Z',
      POLICIES: '7',
      REASON: 'overload',
      READY: 'True',
      AGE: expect.any(String),
    });
    expect(await header('syshealth')).toEqual(['NAME', 'MODE', 'EFFECTIVE', 'UNTIL', 'POLICIES', 'READY', 'AGE']);
  });

  it('shows of a consumer whether it counts', async () => {
    await client.create({ kind: 'Consumer', name: 'shown', spec: { tier: 'pro' } });
    await patchStatus('consumer/shown', { conditions: [condition('Accepted', 'True'), condition('Ready', 'False')] });
    expect(await table('slc', 'shown')).toMatchObject({ TIER: 'pro', ACCEPTED: 'True', READY: 'False' });
    expect(await header('slc')).toEqual(['NAME', 'TIER', 'ACCEPTED', 'READY', 'AGE']);
  });

  it('lists all kinds under one category', async () => {
    const resources = await controlPlane.kubectl(['api-resources', '--categories=sluice', '--output=name']);
    expect(resources.trim().split('\n').toSorted()).toEqual([
      'consumers.sluice.dev',
      'ratelimitdomains.sluice.dev',
      'ratelimitoverrides.sluice.dev',
      'ratelimitpolicies.sluice.dev',
      'systemhealths.sluice.dev',
    ]);
  });
});

/** Whether the API server speaks of the field that `validate` names, or of the object or list that has it. */
function isAtOrAbove(field: string, path: string): boolean {
  return path === field || path.startsWith(`${field}.`) || path.startsWith(`${field}[`);
}

function condition(type: string, status: string): object {
  return { type, status, reason: 'Test', message: 'Made by a test.', lastTransitionTime: '2026-01-01T00:00:00Z' };
}

async function patchStatus(object: string, status: object): Promise<void> {
  const patch = JSON.stringify({ status });
  const options = ['--subresource=status', '--type=merge', `--namespace=${CASE_NAMESPACE}`, `--patch=${patch}`];
  await controlPlane.kubectl(['patch', object, ...options]);
}

async function header(resource: string): Promise<string[]> {
  const output = await controlPlane.kubectl(['get', resource, `--namespace=${CASE_NAMESPACE}`]);
  return (output.split('\n')[0] ?? '').trim().split(/\s+/);
}

/** The wide row of an object, by the names of its columns. */
async function table(resource: string, name: string): Promise<Record<string, string>> {
  const output = await controlPlane.kubectl(['get', resource, name, `--namespace=${CASE_NAMESPACE}`, '--output=wide']);
  const [names = [], values = []] = output.split('\n').map((line) => line.trim().split(/\s+/));
  return Object.fromEntries(names.map((column, index) => [column, values[index] ?? '']));
}
