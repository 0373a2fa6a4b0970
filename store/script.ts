import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Redis } from 'ioredis';
import { toStoreError } from './errors.ts';

const FOLDER = new URL('../lua/', import.meta.url);
const INCLUDE = /^--@include (?<file>[a-z-]+\.lua)$/gm;

/** The text of a script with its fragments in place. */
export function readScript(name: string): string {
  const text = readFileSync(new URL(`${name}.lua`, FOLDER), 'utf8');
  return text.replaceAll(INCLUDE, (_line, file: string) => readFileSync(new URL(file, FOLDER), 'utf8').trimEnd());
}

/**
 * One script. EVALSHA; if Redis does not know it (restart, fail-over, SCRIPT FLUSH), EVAL once: NOSCRIPT means that
 * nothing was executed, so this can never charge twice.
 */
export class Script {
  readonly text: string;
  readonly #sha: string;

  constructor(text: string) {
    this.text = text;
    this.#sha = createHash('sha1').update(text).digest('hex');
  }

  /** The raw reply; throws StoreError. */
  async run(redis: Redis, keys: readonly string[], args: readonly (string | number)[]): Promise<unknown> {
    try {
      return await redis.call('EVALSHA', [this.#sha, keys.length, ...keys, ...args]);
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw toStoreError(error);
    }
    try {
      return await redis.call('EVAL', [this.text, keys.length, ...keys, ...args]);
    } catch (error) {
      throw toStoreError(error);
    }
  }
}

export const loadScript = (name: string): Script => new Script(readScript(name));
