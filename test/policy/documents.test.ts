import { describe, expect, it } from 'vitest';
import {
  FORMAT,
  type ManifestIndex,
  type ManifestShard,
  readDocument,
  readIndex,
  readShard,
  toStored,
  UnreadableDocument,
} from '../../policy/documents.ts';
import { aHealthDocument, aPolicy } from './builders.ts';

const policy = aPolicy().withTier('free', { default: true }).withRule({ limitsFrom: 'Tier' }).document();
const health = aHealthDocument({ expiresAt: '2026-06-01T12:00:00Z', scope: { domains: ['a'], tiers: ['b'] } });
const shard: ManifestShard = {
  format: FORMAT,
  requires: [],
  entries: [
    {
      kind: 'RateLimitPolicy',
      namespace: 'payments',
      name: 'limits',
      uid: 'u',
      generation: 1,
      revision: 2,
      document: 'd',
    },
  ],
};
const index: ManifestIndex = { format: FORMAT, requires: [], shards: ['a', 'b'] };

/** Every kind of document, with what reads it. */
const READERS = [
  { title: 'a policy', content: policy, read: readDocument },
  { title: 'a health object', content: health, read: readDocument },
  { title: 'a shard of a manifest', content: shard, read: readShard },
  { title: 'the index of a manifest', content: index, read: readIndex },
];

describe.each(READERS)('$title', ({ content, read }) => {
  it('reads as it was written', () => {
    expect(read(toStored(content).text)).toEqual(content);
  });

  it('is named by its content', () => {
    expect(toStored(content)).toEqual(toStored(structuredClone(content)));
    expect(toStored(content).name).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(toStored({ ...content, requires: ['more'] }).name).not.toBe(toStored(content).name);
  });

  it.each([
    ['of a later format', { format: 2 }, /format 1 is what this version reads/],
    ['of an earlier format', { format: 0 }, /format 1 is what this version reads/],
    ['without a format', { format: undefined }, /format 1 is what this version reads/],
    ['that requires an unknown feature', { requires: ['cost-by-body'] }, /lacks: cost-by-body/],
    ['that requires several', { requires: ['one', 'two'] }, /lacks: one, two/],
    ['that does not say what it requires', { requires: undefined }, /format 1/],
  ])('%s is refused', (_title, change, message) => {
    const text = JSON.stringify({ ...content, ...change });
    expect(() => read(text)).toThrow(UnreadableDocument);
    expect(() => read(text)).toThrow(message);
  });

  it.each(['', 'null', '[]', '"text"', '5', '{}', '{"format":1}', '{"format":1,"requires":[]}'])(
    'is not %s',
    (text) => {
      expect(() => read(text)).toThrow(UnreadableDocument);
    },
  );

  it.each(['{', 'not json', JSON.stringify(content).slice(0, -1), `${JSON.stringify(content)}}`])(
    'that is not JSON is refused: %s',
    (text) => {
      expect(() => read(text)).toThrow(new UnreadableDocument('is not JSON'));
    },
  );

  it('may have fields that are not known: what has to be understood is required by name', () => {
    expect(read(JSON.stringify({ ...content, comment: 'of a later version' }))).toEqual(content);
  });
});

describe('a document that cannot be read', () => {
  it('is a fault with a code, which trying again does not mend', () => {
    const fault = new UnreadableDocument('is not JSON');
    expect(fault).toMatchObject({ name: 'UnreadableDocument', code: 'UNREADABLE_DOCUMENT', transient: false });
  });

  it.each([
    ['an unknown kind', { ...policy, kind: 'RateLimitOverride' }],
    ['an unknown algorithm', { ...policy, rules: [{ ...policy.rules[0], algorithm: 'LeakyBucket' }] }],
    ['a number that is none', { ...health, expiresAtMicros: null }],
    ['no rules', { ...policy, rules: undefined }],
    ['a limit without a field', { ...policy, rules: [{ ...policy.rules[0], limits: [{ windowSeconds: 1 }] }] }],
  ])('is one with %s', (_title, content) => {
    expect(() => readDocument(JSON.stringify(content))).toThrow(UnreadableDocument);
  });

  it('is one of another sort', () => {
    expect(() => readShard(toStored(index).text)).toThrow(UnreadableDocument);
    expect(() => readIndex(toStored(shard).text)).toThrow(UnreadableDocument);
    expect(() => readDocument(toStored(shard).text)).toThrow(UnreadableDocument);
  });
});
