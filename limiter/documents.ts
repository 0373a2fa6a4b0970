import type { DocumentChange } from '../policy/build-snapshot.ts';
import { type Document, readDocument, readIndex, readShard } from '../policy/documents.ts';
import { type Steps, withEach } from '../policy/steps.ts';
import { inSlices, type Turns } from './slices.ts';

/** A part of a manifest: the documents that it lists, by name. */
type Shard = ReadonlyMap<string, Document>;

/** The documents of one manifest, in the parts that it consists of, by name. What has the same name has the same text. */
export type Documents = ReadonlyMap<string, Shard>;

export const NO_DOCUMENTS: Documents = new Map();

export type DocumentSource = {
  /** The texts of documents by name; fails if one is not there. */
  readonly textsOf: (names: readonly string[]) => Promise<ReadonlyMap<string, string>>;
  readonly turns: Turns;
};

export type DocumentsRead = { readonly documents: Documents; readonly change: DocumentChange };

/** Texts that are in memory at once. */
const CHUNK = 500;

/**
 * The documents of a manifest, and what they have that the held ones have not. Only parts that are not held are read, and
 * of the documents that these list, those that are not held. Throws UnreadableDocument, and what the source throws.
 */
export async function readDocumentsOf(
  manifest: string,
  held: Documents,
  source: DocumentSource,
): Promise<DocumentsRead> {
  const { shards } = readIndex((await source.textsOf([manifest])).get(manifest) ?? '');
  const wanted = new Set(shards);
  const missing = [...wanted].filter((name) => !held.has(name));
  const kept = new Map([...held].filter(([name]) => wanted.has(name)));
  const parted = [...held].filter(([name]) => !wanted.has(name)).map(([, shard]) => shard);
  const lists = await readAll(missing, namesListedIn, source);
  const found = await inSlices(findHeld(lists, parted, kept), source.turns);
  const added = await readAll(found.unknown, readDocument, source);
  return await inSlices(assemble(kept, lists, found, added), source.turns);
}

const namesListedIn = (text: string): readonly string[] => readShard(text).entries.map(({ document }) => document);

async function readAll<T>(
  wanted: readonly string[],
  read: (text: string) => T,
  { textsOf, turns }: DocumentSource,
): Promise<ReadonlyMap<string, T>> {
  const byName = new Map<string, T>();
  for (let first = 0; first < wanted.length; first += CHUNK) {
    const names = wanted.slice(first, first + CHUNK);
    await inSlices(readEach(names, await textsOf(names), read, byName), turns);
  }
  return byName;
}

function* readEach<T>(
  names: readonly string[],
  texts: ReadonlyMap<string, string>,
  read: (text: string) => T,
  into: Map<string, T>,
): Steps<void> {
  for (const name of names) {
    into.set(name, read(texts.get(name) ?? ''));
    yield;
  }
}

/** The names that each new part lists. */
type Lists = ReadonlyMap<string, readonly string[]>;

type Found = {
  /** What was in parts that are not kept. */
  readonly parted: Shard;
  /** What new parts list and is held, */
  readonly known: Shard;
  /** and what is not. */
  readonly unknown: readonly string[];
};

function* findHeld(lists: Lists, partedShards: readonly Shard[], kept: Documents): Steps<Found> {
  const parted = new Map<string, Document>();
  for (const shard of partedShards) {
    for (const [name, document] of shard) parted.set(name, document);
    yield;
  }
  const known = new Map<string, Document>();
  const unknown = new Set<string>();
  for (const names of lists.values()) {
    yield* withEach(names, (name) => {
      const document = parted.get(name) ?? findIn(kept, name);
      if (document === undefined) unknown.add(name);
      else known.set(name, document);
    });
    yield;
  }
  return { parted, known, unknown: [...unknown] };
}

/** Mostly a document is listed once, and always by the same part; but nothing says that it has to be. */
function findIn(shards: Documents, name: string): Document | undefined {
  for (const shard of shards.values()) {
    const document = shard.get(name);
    if (document !== undefined) return document;
  }
  return undefined;
}

function* assemble(
  kept: Documents,
  lists: Lists,
  { parted, known }: Found,
  added: ReadonlyMap<string, Document>,
): Steps<DocumentsRead> {
  const documents = new Map(kept);
  for (const [shard, names] of lists) {
    const listed = new Map<string, Document>();
    for (const name of names) {
      const document = known.get(name) ?? added.get(name);
      if (document !== undefined) listed.set(name, document);
    }
    documents.set(shard, listed);
    yield;
  }
  const left: Document[] = [];
  for (const [name, document] of parted) {
    if (!known.has(name) && findIn(kept, name) === undefined) left.push(document);
    yield;
  }
  return { documents, change: { added: [...added.values()], left } };
}
