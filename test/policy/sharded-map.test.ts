import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ShardedMap } from '../../policy/sharded-map.ts';

type Values = ReadonlyMap<string, number>;

/** Few keys, so that the same one is changed, removed and put back. */
const change = fc.tuple(
  fc.integer({ min: 0, max: 30 }).map((number) => `key-${number}`),
  fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined }),
);

function changed(values: Values, changes: readonly (readonly [string, number | undefined])[]): Values {
  const copy = new Map(values);
  for (const [key, value] of changes) {
    if (value === undefined) copy.delete(key);
    else copy.set(key, value);
  }
  return copy;
}

describe('a sharded map', () => {
  it('holds after any changes what a plain one would, leaves the one before as it was, and tells them apart', () => {
    fc.assert(
      fc.property(fc.array(fc.array(change, { maxLength: 20 }), { maxLength: 8 }), (steps) => {
        let [plain, map]: [Values, ShardedMap<number>] = [new Map(), ShardedMap.of([])];
        for (const step of steps) {
          const [nextPlain, next] = [changed(plain, step), map.with(step)];
          expect(new Map(map)).toEqual(plain);
          expect(new Map(next)).toEqual(nextPlain);
          expect([next.size, [...next.keys()].length, [...next.values()].length]).toEqual([
            nextPlain.size,
            nextPlain.size,
            nextPlain.size,
          ]);
          const all = new Set([...plain.keys(), ...nextPlain.keys()]);
          const different = [...all].filter((key) => plain.get(key) !== nextPlain.get(key)).toSorted();
          expect(next.differenceTo(map).toSorted()).toEqual(different);
          for (const key of all)
            expect([next.get(key), next.has(key)]).toEqual([nextPlain.get(key), nextPlain.has(key)]);
          [plain, map] = [nextPlain, next];
        }
      }),
    );
  });

  it('shares with its successor all but what has changed', () => {
    const map = ShardedMap.of(Array.from({ length: 10_000 }, (_, index): [string, number] => [`key-${index}`, index]));
    const next = map.with([['key-7', -1]]);
    expect(next.shards.filter((shard, number) => shard !== map.shards[number])).toHaveLength(1);
    expect(Math.max(...map.shards.map(({ size }) => size))).toBeLessThan(400);
    expect(next.with([['key-7', -1]])).toBe(next);
    expect(ShardedMap.of(next)).toBe(next);
  });
});
