import { z } from 'zod';
import { digest } from '../policy/hash.ts';
import { type Configuration, loadConfiguration } from './configuration.ts';
import type { Turns } from './slices.ts';

/** What the operator hands out of the configuration in force: all that is needed while Redis is away. */
const handedOut = z.object({
  format: z.literal(1),
  head: z.object({
    owner: z.string(),
    incarnation: z.string(),
    epoch: z.int(),
    revision: z.int(),
    manifest: z.string(),
  }),
  documents: z.record(z.string(), z.string()),
});

const MAX_BYTES = 64 * 1024 * 1024;
const DEADLINE_MILLIS = 5_000;

/** The configuration in force, from the operator. Throws Error that says why it cannot be used. */
export async function fetchConfiguration(url: string, owner: string, turns: Turns): Promise<Configuration> {
  const response = await fetch(url, { signal: AbortSignal.timeout(DEADLINE_MILLIS), redirect: 'error' });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`the operator answered ${response.status}`);
  }
  const { head, documents: texts } = handedOut.parse(JSON.parse(await boundedText(response)));
  const { owner: theirs, ...identity } = head;
  if (theirs !== owner) throw new Error(`the operator configures "${theirs}", not "${owner}"`);
  const textOf = (name: string): string => {
    const text = texts[name];
    if (text === undefined) throw new Error(`document ${name} is missing`);
    // Its name is the hash of its text: what was damaged on the way is not believed.
    if (digest(text) !== name) throw new Error(`document ${name} is not what its name says`);
    return text;
  };
  const textsOf = async (names: readonly string[]) => new Map(names.map((name) => [name, textOf(name)]));
  return await loadConfiguration(identity, undefined, { textsOf, turns });
}

async function boundedText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    length += chunk.length;
    if (length > MAX_BYTES) throw new Error(`the configuration is larger than ${MAX_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
