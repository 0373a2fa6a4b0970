import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { generateAll } from '../../crds/generate.ts';

const FOLDER = join(import.meta.dirname, '..', '..', 'crds');

describe('the custom resource definitions that are checked in', () => {
  it.each(generateAll())('are what the schemas say, byte by byte: $name', ({ name, text }) => {
    // If this fails: npm run generate, and raise SCHEMA_NUMBER when the definitions that are out there differ.
    expect(readFileSync(join(FOLDER, name)).equals(Buffer.from(text))).toBe(true);
  });

  it('are no more and no fewer than there are kinds', () => {
    const files = readdirSync(FOLDER).filter((name) => name.endsWith('.yaml'));
    expect(files.toSorted()).toEqual(
      generateAll()
        .map(({ name }) => name)
        .toSorted(),
    );
  });
});
