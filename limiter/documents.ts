import { type Document, readDocument, readIndex, readShard } from '../policy/documents.ts';
import type { Steps } from '../policy/snapshot.ts';
import { inSlices, type Turns } from './slices.ts';

/** The documents of one manifest, and what the manifest consists of; by name. */
export type Documents = {
  readonly byName: ReadonlyMap<string, Document>;
  /** The names of the documents that each part of the manifest lists. */
  readonly shards: ReadonlyMap<string, readonly string[]>;
};

export const NO_DOCUMENTS: Documents = { byName: new Map(), shards: new Map() };

export type DocumentSource = {
  /** The texts of documents by name; fails if one is not there. */
  readonly textsOf: (names: readonly string[]) => Promise<ReadonlyMap<string, string>>;
  readonly turns: Turns;
};

/** Texts that are in memory at once. */
const CHUNK = 500;

/**
 * The documents of a manifest. Those that are held are taken over: what has the same name has the same text. Throws
 * UnreadableDocument, and what the source throws.
 */
export async function readDocumentsOf(
  manifest: string,
  held: Documents,
  source: DocumentSource,
): Promise<Documents & { readonly fetched: number }> {
  const { shards: names } = readIndex((await source.textsOf([manifest])).get(manifest) ?? '');
  const listed = (text: string): readonly string[] => readShard(text).entries.map(({ document }) => document);
  const { byName: shards } = await readAll(names, { held: held.shards, read: listed }, source);
  const wanted = await inSlices(withoutRepetition(shards.values()), source.turns);
  const { byName, fetched } = await readAll(wanted, { held: held.byName, read: readDocument }, source);
  return { byName, shards, fetched };
}

type Reading<T> = { readonly held: ReadonlyMap<string, T>; readonly read: (text: string) => T };

async function readAll<T>(
  wanted: readonly string[],
  reading: Reading<T>,
  { textsOf, turns }: DocumentSource,
): Promise<{ readonly byName: Map<string, T>; readonly fetched: number }> {
  const byName = new Map<string, T>();
  let fetched = 0;
  for (let first = 0; first < wanted.length; first += CHUNK) {
    const names = wanted.slice(first, first + CHUNK);
    const missing = names.filter((name) => !reading.held.has(name));
    const texts = missing.length === 0 ? new Map<string, string>() : await textsOf(missing);
    await inSlices(readEach(names, texts, reading, byName), turns);
    fetched += missing.length;
  }
  return { byName, fetched };
}

function* readEach<T>(
  names: readonly string[],
  texts: ReadonlyMap<string, string>,
  { held, read }: Reading<T>,
  into: Map<string, T>,
): Steps<void> {
  for (const name of names) {
    into.set(name, held.get(name) ?? read(texts.get(name) ?? ''));
    yield;
  }
}

function* withoutRepetition(lists: Iterable<readonly string[]>): Steps<string[]> {
  const all = new Set<string>();
  for (const list of lists) {
    for (const item of list) all.add(item);
    yield;
  }
  return [...all];
}
