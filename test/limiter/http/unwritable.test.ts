// What goes into headers is checked wherever it comes from: only an engine that is broken can show this.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../../limiter/asked.ts';
import { startDoors, type TestDoors } from '../../harness/doors.ts';

/** The rule that it names has a line break for every second request. */
function breaking(engine: Engine): Engine {
  let asked = 0;
  return {
    async check(snapshot, request) {
      asked += 1;
      const isBroken = asked % 2 === 0;
      const result = await engine.check(snapshot, request);
      if (!isBroken) return result;
      const shown = (result.decision.shown ?? []).map((limit) => ({ ...limit, rule: 'line\nbreak' }));
      return { ...result, decision: { ...result.decision, shown } };
    },
  };
}

let doors: TestDoors;
beforeAll(async () => {
  doors = await startDoors(breaking);
});
afterAll(() => doors.stop());

const statusOfOne = async (headers: Readonly<Record<string, string>>): Promise<number> => {
  const response = await fetch(`${doors.url}/authz/payments/`, { headers });
  await response.text();
  return response.status;
};

describe('an answer that cannot be written', () => {
  it.each([
    ['here', {}, 0],
    ['by Node', { 'x-not-ascii': 'ü' }, 40],
  ])(
    'is a 500 and a line in the log, and takes no other answer of its turn with it: %s',
    async (_by, headers, read) => {
      const [logged, readBefore] = [doors.events.length, doors.readByNode()];
      const statuses = await Promise.all(Array.from({ length: 40 }, () => statusOfOne(headers)));
      expect(statuses.filter((status) => status === 200)).toHaveLength(20);
      expect(statuses.filter((status) => status === 500)).toHaveLength(20);
      expect(doors.events).toHaveLength(logged + 20);
      expect(doors.events.at(-1)).toMatchObject({ event: 'request_failed', err: { code: 'ERR_INVALID_CHAR' } });
      expect(doors.readByNode() - readBefore).toBe(read);
    },
  );
});
