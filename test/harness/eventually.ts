import { setTimeout as pause } from 'node:timers/promises';

/** Waits until a check passes, and reports its last failure if it does not within the deadline. */
export async function eventually<T>(check: () => T | Promise<T>, deadlineMillis = 30_000): Promise<T> {
  const deadline = performance.now() + deadlineMillis;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
    await pause(25);
  }
}
