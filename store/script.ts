import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { RedisCommander } from 'ioredis';
import { toStoreError } from './errors.ts';

const INCLUDE = /^--@include (?<file>[a-z-]+\.lua)$/gm;

/** The text of a script with its fragments in place. */
export function readScript(name: string): string {
  return readFile(`${name}.lua`).replaceAll(INCLUDE, (_line, file: string) => readFile(file).trimEnd());
}

/** From lua/ beside package.json, wherever this module was compiled to. */
function readFile(name: string): string {
  return readFileSync(new URL(import.meta.resolve(`#lua/${name}`)), 'utf8');
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

  /** The raw reply; throws StoreError. Lower case: a cluster's client finds the slot of the keys by these names only. */
  async run(redis: RedisCommander, keys: readonly string[], args: readonly (string | number)[]): Promise<unknown> {
    try {
      return await redis.call('evalsha', [this.#sha, keys.length, ...keys, ...args]);
    } catch (error) {
      if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw toStoreError(error);
    }
    try {
      return await redis.call('eval', [this.text, keys.length, ...keys, ...args]);
    } catch (error) {
      throw toStoreError(error);
    }
  }
}

export const loadScript = (name: string): Script => new Script(readScript(name));
