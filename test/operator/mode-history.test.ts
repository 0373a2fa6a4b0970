import { describe, expect, it } from 'vitest';
import { withChange } from '../../operator/mode-history.ts';

const at = (minute: number): string => `2026-11-21T10:${String(minute).padStart(2, '0')}:00Z`;

describe('the history of a mode', () => {
  it('begins with the first look, and stays as it is while the mode does', () => {
    const first = withChange(undefined, { mode: 'NORMAL', at: at(0) });
    expect(first).toEqual({ since: at(0), history: [{ mode: 'NORMAL', at: at(0) }] });
    const status = { effectiveMode: 'NORMAL', ...first };
    expect(withChange(status, { mode: 'NORMAL', at: at(5) })).toEqual(first);
  });

  it('holds the last ten changes, the newest first, each with the reason that was declared', () => {
    let status: object = {};
    for (let minute = 0; minute < 12; minute += 1) {
      const mode = minute % 2 === 0 ? 'DEGRADED' : 'NORMAL';
      const reason = mode === 'DEGRADED' ? `incident ${minute}` : undefined;
      status = { effectiveMode: mode, ...withChange(status, { mode, at: at(minute), reason }) };
    }
    const { since, history } = status as ReturnType<typeof withChange>;
    expect(since).toBe(at(11));
    expect(history).toHaveLength(10);
    expect(history.slice(0, 2)).toEqual([
      { mode: 'NORMAL', at: at(11) },
      { mode: 'DEGRADED', at: at(10), reason: 'incident 10' },
    ]);
  });

  it('begins anew when somebody has put nonsense in its place', () => {
    const status = { effectiveMode: 'NORMAL', since: at(0), history: 'nonsense' };
    expect(withChange(status, { mode: 'NORMAL', at: at(1) }).history).toEqual([{ mode: 'NORMAL', at: at(1) }]);
  });
});
