import { describe, expect, it } from 'vitest';
import { OperatorMetrics } from '../../operator/metrics/metrics.ts';
import { Propagation } from '../../operator/propagation.ts';
import type { RawResource } from '../../policy/resource.ts';

const object = (uid: string, generation = 1): RawResource => ({
  kind: 'RateLimitPolicy',
  metadata: { namespace: 'shop', name: uid, uid, generation, creationTimestamp: '' },
  spec: {},
});

describe('the time from an edit to Enforced', () => {
  it('is measured once for each edit, from when it was seen first', () => {
    const propagation = new Propagation();
    propagation.note([object('old')], 0);
    expect(propagation.finish(object('old'), 500)).toBeUndefined();
    propagation.note([object('old', 2), object('new')], 1_000);
    propagation.note([object('old', 2), object('new')], 1_200);
    expect(propagation.finish(object('old', 2), 1_750)).toBe(0.75);
    expect(propagation.finish(object('old', 2), 9_000)).toBeUndefined();
    expect(propagation.finish(object('new'), 4_000)).toBe(3);
  });

  it('is that of the last edit where several come before the first is enforced', () => {
    const propagation = new Propagation();
    propagation.note([], 0);
    propagation.note([object('hasty')], 1_000);
    propagation.note([object('hasty', 2)], 2_000);
    expect(propagation.finish(object('hasty'), 2_500)).toBeUndefined();
    expect(propagation.finish(object('hasty', 2), 2_500)).toBe(0.5);
  });

  it('is not that of an object that was deleted', () => {
    const propagation = new Propagation();
    propagation.note([], 0);
    propagation.note([object('gone'), object('stays')], 1_000);
    propagation.note([object('stays')], 2_000);
    expect(propagation.finish(object('gone'), 3_000)).toBeUndefined();
    expect(propagation.finish(object('stays'), 3_000)).toBe(2);
  });

  it('is exported as a histogram with exactly these values', async () => {
    const metrics = new OperatorMetrics({ controllers: [], lease: 'lease' });
    for (const seconds of [0.05, 0.1, 0.3, 0.9, 0.9, 4, 120]) metrics.onPropagated(seconds);
    const text = await metrics.registry.getSingleMetricAsString('sluice_propagation_seconds');
    const lines = text.split('\n').filter((line) => line.startsWith('sluice_propagation_seconds'));
    expect(lines.map((line) => line.replace('sluice_propagation_seconds', ''))).toEqual([
      '_bucket{le="0.1"} 2',
      '_bucket{le="0.25"} 2',
      '_bucket{le="0.5"} 3',
      '_bucket{le="0.75"} 3',
      '_bucket{le="1"} 5',
      '_bucket{le="1.5"} 5',
      '_bucket{le="2"} 5',
      '_bucket{le="3"} 5',
      '_bucket{le="5"} 6',
      '_bucket{le="10"} 6',
      '_bucket{le="30"} 6',
      '_bucket{le="60"} 6',
      '_bucket{le="+Inf"} 7',
      '_sum 126.25',
      '_count 7',
    ]);
  });
});
