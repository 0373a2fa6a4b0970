import { describe, expect, it } from 'vitest';
import { createNames } from '../../store/names.ts';

describe('names in Redis', () => {
  it('share a slot where one script touches several', () => {
    const tag = (key: string): string | undefined => /\{(.*?)\}/.exec(key)?.[1];
    const names = createNames('default');
    expect([names.head, names.pods, names.document('a'), names.document('b')].map(tag)).toEqual(
      Array.from({ length: 4 }, () => 'config'),
    );
    expect([names.consumerKeysMarker, names.consumerKeysIndex, names.consumerKey('a')].map(tag)).toEqual(
      Array.from({ length: 3 }, () => 'keys'),
    );
    expect([names.counters('p', 'a'), names.penalty('p', 'b'), names.penaltyIndex('p')].map(tag)).toEqual([
      'p',
      'p',
      'p',
    ]);
  });

  it.each(['', 'Default', 'a:b', 'a}b', '-a', 'a-', 'a'.repeat(64)])(
    'refuse "%s" as an installation',
    (installation) => {
      expect(() => createNames(installation)).toThrow(RangeError);
    },
  );

  it('of two installations never meet', () => {
    expect(createNames('a').head).not.toBe(createNames('b').head);
    expect(createNames('a'.repeat(63)).head).toContain('a'.repeat(63));
  });
});
