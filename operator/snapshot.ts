import { type Published, referencesOf } from './published.ts';

/** What is in force, complete: what a limiter needs to start while Redis is away. */
export type Snapshot = { readonly etag: string; readonly body: string };

/** Of the form of /snapshot, increased when it changes. */
const SNAPSHOT_FORMAT = 1;

/** Undefined if a part of it is not known. The text of each document is exactly the one in Redis. */
export function toSnapshot(owner: string, published: Published): Snapshot | undefined {
  const { identity, documents } = published;
  const texts: Record<string, string> = {};
  for (const name of referencesOf(published)) {
    const document = documents.get(name);
    if (document === undefined) return undefined;
    texts[name] = document.text;
  }
  const { incarnation, epoch, revision, manifest } = identity;
  const head = { owner, incarnation, epoch, revision, manifest };
  return {
    etag: `"${incarnation}-${epoch}-${revision}"`,
    body: JSON.stringify({ format: SNAPSHOT_FORMAT, head, documents: texts }),
  };
}
