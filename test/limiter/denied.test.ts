import { describe, expect, it } from 'vitest';
import { DeniedList } from '../../limiter/denied.ts';
import { IDENTITY_MISSING, UNKNOWN_DOMAIN } from '../../policy/decision.ts';
import { aCheck } from '../harness/checker.ts';

describe('the list of who is denied', () => {
  it('has room for the domains that there are, whatever names callers make up', () => {
    const denied = new DeniedList();
    for (let i = 0; i < 1_000; i += 1) denied.note(aCheck({ domain: `made-up-${i}` }), UNKNOWN_DOMAIN);
    denied.note(aCheck(), IDENTITY_MISSING);
    expect(denied.top('payments')).toMatchObject([{ who: 'caller:acme', denials: 1, lastReason: 'IDENTITY_MISSING' }]);
    expect(denied.top('made-up-1')).toBeUndefined();
  });

  it('is not made longer by a peek', () => {
    const denied = new DeniedList();
    denied.note(aCheck({ isPeek: true }), IDENTITY_MISSING);
    expect(denied.top('payments')).toBeUndefined();
  });
});
