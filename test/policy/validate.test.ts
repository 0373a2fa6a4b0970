import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Problem } from '../../policy/resource.ts';
import { type ResourceKind, resourceKinds } from '../../policy/schema/kinds.ts';
import { validate } from '../../policy/validate.ts';
import { badCases, goodCases, resourceWith, semanticCases, specCases } from './cases.ts';
import { metadataOf } from './builders.ts';
import { damagedSpecs } from './damaged-specs.ts';

function problemsOf(kind: ResourceKind, spec: unknown): readonly Problem[] {
  const validation = validate(resourceWith(kind, spec));
  return validation.ok ? [] : validation.problems;
}

/** The value at a path like `spec.rules[0].name`. */
function valueAt(spec: unknown, path: string): unknown {
  const keys = path.split(/[.[\]]+/).filter((key) => key !== '');
  return keys.slice(1).reduce((value, key) => Object(value)[key] as unknown, spec);
}

describe('the table of specs', () => {
  it('has no two cases of one name', () => {
    const names = specCases.map(({ kind, name }) => `${kind}: ${name}`);
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  });

  it('has both verdicts for every kind', () => {
    const seen = new Set(specCases.map(({ kind, verdict }) => `${kind} ${verdict}`));
    expect([...seen].toSorted()).toEqual(
      Object.keys(resourceKinds)
        .flatMap((kind) => [`${kind} bad`, `${kind} good`])
        .toSorted(),
    );
  });
});

describe('a spec is accepted', () => {
  it.each(goodCases)('$kind: $name', ({ kind, spec }) => {
    expect(problemsOf(kind, spec)).toEqual([]);
  });
});

describe('a spec is refused, with the field, the reason and the value', () => {
  it.each(badCases)('$kind: $name', ({ kind, spec, path, reason }) => {
    const problems = problemsOf(kind, spec);
    expect(problems).toContainEqual({ path, reason, message: expect.any(String) });
    const value: unknown = valueAt(spec, path);
    if (value === undefined || typeof value === 'object') return;
    const message = problems.find((one) => one.path === path && one.reason === reason)?.message;
    const shown = JSON.stringify(value);
    expect(message).toContain(shown.length > 80 ? shown.slice(0, 77) : shown);
  });
});

describe('what only validate can see', () => {
  it.each(semanticCases)('is refused: $kind: $name', ({ kind, spec, path, reason, says }) => {
    expect(problemsOf(kind, spec)).toEqual([{ path, reason, message: expect.stringContaining(says) }]);
  });
});

describe('the name of a RateLimitDomain', () => {
  const problemsOfName = (namespace: string, name: string): readonly Problem[] => {
    const validation = validate({ kind: 'RateLimitDomain', metadata: metadataOf(namespace, name), spec: {} });
    return validation.ok ? [] : validation.problems;
  };

  it.each([['payments'], ['payments.eu'], ['payments.eu.a-b']])('may be %s in the namespace payments', (name) => {
    expect(problemsOfName('payments', name)).toEqual([]);
  });

  it.each([['shop'], ['paymentsx'], ['payments-eu'], ['eu.payments'], ['pay']])(
    'must not be %s in the namespace payments',
    (name) => {
      expect(problemsOfName('payments', name)).toEqual([
        {
          path: 'metadata.name',
          reason: 'DomainNotOwned',
          message: `"${name}" is not a domain of namespace "payments": it must be "payments" or begin with "payments."`,
        },
      ]);
    },
  );
});

describe('a message', () => {
  it.each([
    ['RateLimitPolicy', { rules: 'r' }, '"r" is not allowed: must be an array'],
    ['RateLimitPolicy', { rules: [] }, '[] is not allowed: must have at least 1 item'],
    ['RateLimitPolicy', {}, 'is required: must be an array'],
    ['Consumer', { id: 'a'.repeat(129) }, 'must have at most 128 characters'],
    ['Consumer', { id: 5 }, '5 is not allowed: must be a string'],
    ['Consumer', { tier: 'Pro' }, '"Pro" is not allowed: must match /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/'],
    ['SystemHealth', { mode: 'BAD' }, '"BAD" is not allowed: must be NORMAL or DEGRADED'],
    ['SystemHealth', {}, 'is required: must be NORMAL or DEGRADED'],
    ['SystemHealth', { mode: 'DEGRADED' }, 'reason is required unless mode is NORMAL'],
    [
      'SystemHealth',
      { mode: 'NORMAL', expiresAt: '2026-02-30T00:00:00Z' },
      '"2026-02-30T00:00:00Z" is not allowed: must be a date that exists',
    ],
    ['SystemHealth', { mode: 'NORMAL', scope: { tiers: ['a', 'a'] } }, '"a" is not allowed: no two items may be equal'],
  ] as const)('about a %s %o says: %s', (kind, spec, message) => {
    expect(problemsOf(kind, spec)[0]?.message).toContain(message);
  });

  it('shows at most the beginning of a long value', () => {
    const [problem] = problemsOf('Consumer', { id: 'a'.repeat(100_000) });
    expect(problem?.message.length).toBeLessThan(200);
  });
});

describe('fields that do not exist', () => {
  it.each([
    ['RateLimitPolicy', 'spec.burst', (good: object) => ({ ...good, burst: 5 })],
    [
      'RateLimitPolicy',
      'spec.rules[1].penalty',
      (good: object) => ({ rules: [...rulesOf(good), { ...second, penalty: {} }] }),
    ],
    [
      'RateLimitPolicy',
      'spec.rules[1].limits[0].window',
      (good: object) => ({
        rules: [...rulesOf(good), { ...second, limits: [{ windowSeconds: 1, requests: 1, window: 1 }] }],
      }),
    ],
    [
      'RateLimitPolicy',
      'spec.rules[1].match.path',
      (good: object) => ({ rules: [...rulesOf(good), { ...second, match: { path: '/a' } }] }),
    ],
  ] as const)('are reported: %s %s', (kind, path, misspell) => {
    expect(problemsOf(kind, misspell({ rules: [first] }))).toEqual([
      { path, reason: 'UnknownField', message: 'there is no such field' },
    ]);
  });

  it('are reported one by one, in every kind', () => {
    expect(problemsOf('SystemHealth', { mode: 'NORMAL', scope: { tier: 'a', domain: 'b' } })).toMatchObject([
      { path: 'spec.scope.tier', reason: 'UnknownField' },
      { path: 'spec.scope.domain', reason: 'UnknownField' },
    ]);
    expect(problemsOf('Consumer', { apiKeys: ['secret'] })).toMatchObject([
      { path: 'spec.apiKeys', reason: 'UnknownField' },
    ]);
  });
});

const first = {
  name: 'first',
  countBy: ['consumer'],
  algorithm: 'TokenBucket',
  limits: [{ windowSeconds: 1, requests: 1 }],
};
const second = { ...first, name: 'second' };

function rulesOf(spec: object): unknown[] {
  return 'rules' in spec && Array.isArray(spec.rules) ? spec.rules : [];
}

describe('a spec with several problems', () => {
  it('has all of them reported, not only the first', () => {
    const limits = [{ windowSeconds: 0, requests: 1 }, { windowSeconds: 60 }];
    const problems = problemsOf('RateLimitPolicy', { domain: 'A', rules: [{ ...first, name: 'B', limits }] });
    expect(problems.map(({ path }) => path)).toEqual([
      'spec.domain',
      'spec.rules[0].name',
      'spec.rules[0].limits[0].windowSeconds',
      'spec.rules[0].limits[1].requests',
    ]);
  });

  it('has the semantic ones reported together, once its schema is right', () => {
    const match = {
      paths: [
        { type: 'Exact', value: '/a/../b' },
        { type: 'Template', value: '/a' },
      ],
    };
    const problems = problemsOf('RateLimitPolicy', { domain: 'shop', rules: [{ ...first, match }] });
    expect(problems.map(({ reason }) => reason)).toEqual(['PathNotNormal', 'BadTemplate']);
  });
});

describe('any value at all', () => {
  it('is judged, never thrown over', () => {
    const kinds = fc.constantFrom<ResourceKind>('RateLimitPolicy', 'SystemHealth', 'Consumer');
    fc.assert(
      fc.property(kinds, fc.jsonValue(), (kind, spec) => {
        expect(typeof validate(resourceWith(kind, spec)).ok).toBe('boolean');
      }),
    );
  });

  it('in the place of any part of a good spec is judged, never thrown over', () => {
    fc.assert(
      fc.property(damagedSpecs, ({ kind, spec }) => {
        for (const { path, message } of problemsOf(kind, spec)) {
          expect(path).toMatch(/^spec/);
          expect(message).not.toMatch(/^undefined/);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});
