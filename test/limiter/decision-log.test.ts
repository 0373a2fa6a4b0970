import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { DecisionLog } from '../../limiter/decision-log.ts';
import { REDACTION } from '../../limiter/redaction.ts';
import { type Decision, INVALID_API_KEY, NO_POLICY } from '../../policy/decision.ts';
import { aCheck } from '../harness/checker.ts';

function aLog(allowedPerSecond: number, deniedPerSecond: number) {
  const lines: Record<string, unknown>[] = [];
  const now = { millis: 0 };
  const log = pino({}, { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
  const decisions = new DecisionLog({ log, monotonicMillis: () => now.millis, allowedPerSecond, deniedPerSecond });
  const note = (decision: Decision): void =>
    decisions.note(aCheck({ apiKey: 'the key of acme' }), { decision, tier: 'free', revision: 7 });
  return { lines, now, note };
}

describe('the log of decisions', () => {
  it('has so many lines a second, and says how many it left out', () => {
    const { lines, now, note } = aLog(0, 2);
    for (let i = 0; i < 5; i += 1) note(INVALID_API_KEY);
    expect(lines).toHaveLength(2);
    now.millis = 500;
    note(INVALID_API_KEY);
    note(INVALID_API_KEY);
    expect(lines.map(({ skipped }) => skipped)).toEqual([0, 0, 3]);
    now.millis = 3_600_000;
    for (let i = 0; i < 5; i += 1) note(INVALID_API_KEY);
    expect(lines).toHaveLength(5);
  });

  it('says nothing of allowed requests unless asked to', () => {
    const [silent, talking] = [aLog(0, 10), aLog(1, 0)];
    for (const { note } of [silent, talking]) for (const decision of [NO_POLICY, INVALID_API_KEY]) note(decision);
    expect(silent.lines).toMatchObject([{ action: 'BLOCK' }]);
    expect(talking.lines).toMatchObject([{ event: 'rate_limit_decision', action: 'ALLOW', tier: 'free', revision: 7 }]);
  });

  it('says who it was without the key', () => {
    const { lines, note } = aLog(0, 1);
    note(INVALID_API_KEY);
    expect(lines).toMatchObject([{ who: expect.stringMatching(/^key:sha256:[0-9a-f]{16}$/) as string }]);
    expect(JSON.stringify(lines)).not.toContain('acme');
  });
});

describe('a secret that is logged by mistake', () => {
  it('is left out, wherever it stands', () => {
    const lines: string[] = [];
    const log = pino({ redact: REDACTION }, { write: (line: string) => void lines.push(line) });
    const secrets = { api_key: 'hush', 'x-api-key': 'hush', authorization: 'hush', pepper: 'hush' };
    log.info({ ...secrets, request: { ...secrets, headers: secrets } });
    expect(lines.join('')).toContain('[secret]');
    expect(lines.join('')).not.toContain('hush');
  });
});
