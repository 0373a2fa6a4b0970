import type { RawResource } from '../policy/resource.ts';
import { changesBetween } from './changes.ts';

type Edit = { readonly generation: number; readonly atMillis: number };

/** Measures how long each edit takes from the moment that it was seen until its status says that it is enforced. */
export class Propagation {
  readonly #known = new Map<string, number>();
  readonly #edits = new Map<string, Edit>();
  #last: readonly RawResource[] | undefined;

  /** Notes which objects are new or edited. What the first look finds is not: it may be as old as it likes. */
  note(resources: readonly RawResource[], atMillis: number): void {
    const { gone, come } = changesBetween(this.#last ?? [], resources);
    const isFirst = this.#last === undefined;
    this.#last = resources;
    for (const { metadata } of come) {
      if (this.#known.get(metadata.uid) === metadata.generation) continue;
      this.#known.set(metadata.uid, metadata.generation);
      if (!isFirst) this.#edits.set(metadata.uid, { generation: metadata.generation, atMillis });
    }
    const alive = new Set(come.map(({ metadata }) => metadata.uid));
    for (const { metadata } of gone) {
      if (alive.has(metadata.uid)) continue;
      this.#known.delete(metadata.uid);
      this.#edits.delete(metadata.uid);
    }
  }

  /** The object's status says that it is enforced: the seconds that its edit took, if that is news. */
  finish({ metadata }: RawResource, nowMillis: number): number | undefined {
    const edit = this.#edits.get(metadata.uid);
    if (edit === undefined || edit.generation !== metadata.generation) return undefined;
    this.#edits.delete(metadata.uid);
    return (nowMillis - edit.atMillis) / 1000;
  }
}
