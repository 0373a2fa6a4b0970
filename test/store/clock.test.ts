import { describe, expect, it } from 'vitest';
import { RedisClock } from '../../store/clock.ts';

describe('the clock of Redis', () => {
  it('is taken to be half-way between question and answer, and goes on monotonically from there', () => {
    let monotonic = 1_000;
    const clock = new RedisClock(() => monotonic);
    const sentAt = clock.monotonicMillis();
    monotonic = 1_010;
    clock.observe(1_790_000_000_000_000, sentAt);
    expect(clock.nowMicros()).toBe(1_790_000_000_005_000);
    monotonic = 2_010;
    expect(clock.nowMicros()).toBe(1_790_000_001_005_000);
  });

  it('follows Redis when its clock steps', () => {
    const clock = new RedisClock(() => 5);
    clock.observe(1_790_000_000_000_000, 5);
    clock.observe(1_780_000_000_000_000, 5);
    expect(clock.nowMicros()).toBe(1_780_000_000_000_000);
  });

  it('is that of this machine until Redis has answered', () => {
    const before = Date.now() * 1000;
    expect(new RedisClock(() => 0).nowMicros()).toBeGreaterThanOrEqual(before);
  });
});
