import { describe, expect, it } from 'vitest';
import { PodCount } from '../../limiter/pod-count.ts';

function aCount() {
  let now = 0;
  const count = new PodCount(() => now);
  return { count, wait: (millis: number): void => void (now += millis) };
}

describe('the agreed number of pods', () => {
  it('is unknown until Redis answers, then what it says', () => {
    const { count } = aCount();
    expect(count.agreed).toBeUndefined();
    count.lost();
    expect(count.agreed).toBeUndefined();
    count.seen(3);
    expect(count.agreed).toBe(3);
    count.seen(10);
    expect(count.agreed).toBe(10);
  });

  it('falls only after ten seconds in which fewer were seen each time, to the most of these', () => {
    const { count, wait } = aCount();
    count.seen(10);
    for (const pods of [2, 4, 3, 2, 2]) {
      count.seen(pods);
      expect(count.agreed).toBe(10);
      wait(2_000);
    }
    count.seen(2);
    expect(count.agreed).toBe(4);
  });

  it('does not fall through a Redis that comes back empty again and again', () => {
    const { count, wait } = aCount();
    count.seen(10);
    for (let outage = 0; outage < 10; outage += 1) {
      count.seen(1);
      wait(9_000);
      count.seen(2);
      count.lost();
      wait(60_000);
    }
    expect(count.agreed).toBe(10);
  });

  it('begins to wait anew when all are seen again', () => {
    const { count, wait } = aCount();
    count.seen(10);
    count.seen(9);
    wait(9_000);
    count.seen(10);
    wait(9_000);
    count.seen(9);
    expect(count.agreed).toBe(10);
  });
});
