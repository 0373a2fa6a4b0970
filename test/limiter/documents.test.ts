import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Documents, type DocumentSource, NO_DOCUMENTS, readDocumentsOf } from '../../limiter/documents.ts';
import { type Document, FORMAT, type ManifestEntry, type StoredDocument, toStored } from '../../policy/documents.ts';
import { aPolicy } from '../policy/builders.ts';

const COUNT = 12;
const POLICIES = Array.from({ length: COUNT }, (_, i) => aPolicy().named(`p${i}`).document());
const STORED = POLICIES.map((policy) => toStored(policy));
const nameOf = (index: number): string => STORED[index]?.name ?? '';

/** A manifest of parts that list these policies, as nobody writes it: one may be in several parts, or twice in one. */
function manifestOf(parts: readonly (readonly number[])[]): {
  readonly name: string;
  readonly stored: StoredDocument[];
} {
  const shards = parts.map((indexes) => {
    const entries = indexes.map((index): ManifestEntry => {
      const name = `p${index}`;
      const object = {
        kind: 'RateLimitPolicy',
        namespace: 'payments',
        name,
        uid: 'u',
        generation: 1,
        revision: 1,
      } as const;
      return { ...object, document: nameOf(index) };
    });
    return toStored({ format: FORMAT, requires: [], entries });
  });
  const index = toStored({ format: FORMAT, requires: [], shards: shards.map(({ name }) => name) });
  return { name: index.name, stored: [index, ...shards] };
}

/** Has these texts, besides those of all policies; notes what it is asked for. */
function sourceOf(stored: readonly StoredDocument[], failAt = Number.POSITIVE_INFINITY) {
  const texts = new Map([...STORED, ...stored].map(({ name, text }) => [name, text]));
  const asked: string[] = [];
  const source: DocumentSource = {
    textsOf: async (names) => {
      asked.push(...names);
      if (asked.length > failAt) throw new Error('the source has gone away');
      return new Map(names.map((name) => [name, texts.get(name) ?? '']));
    },
    turns: { monotonicMillis: () => 0, rest: () => Promise.resolve() },
  };
  return { source, asked };
}

const heldOf = (documents: Documents): Document[] => [
  ...new Set([...documents.values()].flatMap((shard) => [...shard.values()])),
];

async function read(parts: readonly (readonly number[])[], held: Documents = NO_DOCUMENTS) {
  const { name, stored } = manifestOf(parts);
  const { source, asked } = sourceOf(stored);
  return { ...(await readDocumentsOf(name, held, source)), asked };
}

const manifest = fc.array(fc.array(fc.nat({ max: COUNT - 1 }), { maxLength: 5 }), { maxLength: 4 });

describe('the documents of a manifest', () => {
  it('are those that it lists, and the change is what the held ones have not, whatever parts list them', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(manifest, { minLength: 1, maxLength: 6 }), async (sequence) => {
        let held = NO_DOCUMENTS;
        const inForce = new Set<Document>();
        for (const parts of sequence) {
          const { documents, change, asked } = await read(parts, held);
          const known = heldOf(held);
          for (const document of change.left) expect(inForce.delete(document)).toBe(true);
          for (const document of change.added) {
            expect(inForce.has(document)).toBe(false);
            inForce.add(document);
          }
          const listed = [...new Set(parts.flat())];
          expect([...inForce].map((one) => ('name' in one ? one.name : '')).toSorted()).toEqual(
            listed.map((index) => `p${index}`).toSorted(),
          );
          expect(new Set(heldOf(documents))).toEqual(inForce);
          // The very same objects are taken over, and nothing that is held is read again.
          for (const document of heldOf(documents)) {
            expect(known.includes(document)).toBe(!change.added.includes(document));
          }
          expect(new Set(asked).size).toBe(asked.length);
          expect(asked.filter((name) => STORED.some((one) => one.name === name))).toHaveLength(change.added.length);
          held = documents;
        }
      }),
      { numRuns: 300 },
    );
  });

  it('that did not change are not asked for, nor are the parts that list them', async () => {
    const { documents } = await read([[0, 1], [2, 3], [4]]);
    const { asked, change } = await read([[0, 1], [2, 5], [4]], documents);
    const { name, stored } = manifestOf([[0, 1], [2, 5], [4]]);
    expect(asked).toEqual([name, stored[2]?.name, nameOf(5)]);
    expect(change).toEqual({ added: [POLICIES[5]], left: [POLICIES[3]] });
  });

  it('that another part still lists do not leave', async () => {
    const { documents } = await read([[0, 1], [1, 2], [3]]);
    const { change, documents: then } = await read([[0], [1, 2], [3]], documents);
    expect(change).toEqual({ added: [], left: [] });
    expect((await read([[0], [2], [3]], then)).change).toEqual({ added: [], left: [POLICIES[1]] });
  });

  it('leave what is held as it was if they cannot be read, wherever that ends', async () => {
    const parts = [[0, 5], [2, 6], [7]];
    const { documents } = await read([[0, 1], [2, 3], [4]]);
    const before = [...documents].map(([name, shard]) => [name, [...shard]]);
    const { name, stored } = manifestOf(parts);
    for (const failAt of [0, 1, 4]) {
      await expect(readDocumentsOf(name, documents, sourceOf(stored, failAt).source)).rejects.toThrow('gone away');
      expect([...documents].map(([part, shard]) => [part, [...shard]])).toEqual(before);
    }
    const { change } = await read(parts, documents);
    expect(change.added).toHaveLength(3);
    expect(change.left).toHaveLength(3);
  });
});
