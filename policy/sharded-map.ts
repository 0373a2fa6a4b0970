const SHARDS = 64;

/** A part of a map: the same object as long as nothing in it has changed. */
export type Shard<V> = ReadonlyMap<string, V>;

/**
 * An immutable map whose successors share with it what has not changed: one change among 10,000 copies one part of 64,
 * and a comparison looks only into parts that are not the same.
 */
export class ShardedMap<V> implements ReadonlyMap<string, V> {
  readonly shards: readonly Shard<V>[];
  readonly size: number;

  private constructor(shards: readonly Shard<V>[]) {
    this.shards = shards;
    this.size = shards.reduce((sum, shard) => sum + shard.size, 0);
  }

  /** The map itself if it is sharded already, and a copy of it otherwise. */
  static of<V>(map: ShardedMap<V> | Iterable<readonly [string, V]>): ShardedMap<V> {
    if (map instanceof ShardedMap) return map;
    const shards = Array.from({ length: SHARDS }, () => new Map<string, V>());
    for (const [key, value] of map) shards[shardOf(key)]?.set(key, value);
    return new ShardedMap(shards);
  }

  get(key: string): V | undefined {
    return this.shards[shardOf(key)]?.get(key);
  }

  has(key: string): boolean {
    return this.shards[shardOf(key)]?.has(key) ?? false;
  }

  /** With other values under these keys; `undefined` removes one. The map itself if they are what it holds. */
  with(changes: Iterable<readonly [string, V | undefined]>): ShardedMap<V> {
    const copies = new Map<number, Map<string, V>>();
    for (const [key, value] of changes) {
      const number = shardOf(key);
      const copy = copies.get(number);
      const current = copy ?? this.shards[number];
      if (current === undefined || current.get(key) === value) continue;
      const changed = copy ?? new Map(current);
      copies.set(number, changed);
      if (value === undefined) changed.delete(key);
      else changed.set(key, value);
    }
    if (copies.size === 0) return this;
    return new ShardedMap(this.shards.map((shard, number) => copies.get(number) ?? shard));
  }

  /** Keys under which the other map holds something else. */
  differenceTo(other: ShardedMap<V>): string[] {
    const keys: string[] = [];
    for (const [number, shard] of this.shards.entries()) {
      const its = other.shards[number];
      if (its === undefined || its === shard) continue;
      for (const [key, value] of shard) if (its.get(key) !== value) keys.push(key);
      for (const key of its.keys()) if (!shard.has(key)) keys.push(key);
    }
    return keys;
  }

  entries(): MapIterator<[string, V]> {
    return this.shards.values().flatMap((shard) => shard.entries());
  }

  keys(): MapIterator<string> {
    return this.shards.values().flatMap((shard) => shard.keys());
  }

  values(): MapIterator<V> {
    return this.shards.values().flatMap((shard) => shard.values());
  }

  forEach(visit: (value: V, key: string, map: ReadonlyMap<string, V>) => void): void {
    for (const [key, value] of this) visit(value, key, this);
  }

  [Symbol.iterator](): MapIterator<[string, V]> {
    return this.entries();
  }
}

/** FNV-1a: the same key has the same place in every process, as manifests are made of shards. */
function shardOf(key: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < key.length; index += 1) hash = Math.imul(hash ^ key.charCodeAt(index), 0x01000193);
  return (hash >>> 16) % SHARDS;
}
