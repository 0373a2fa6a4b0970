import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { runGo } from './go.ts';
import { buildArguments, SOURCES, wrapperModule } from './recipe.ts';
import type { AssetName, Source } from './recipe.ts';

export type BuildOptions = {
  /** Where the binary goes. The caller holds its lock. */
  readonly folder: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly tell: (line: string) => void;
};

const HEART_BEAT_MILLIS = 30_000;
const Download = z.object({ GoMod: z.string() });

/** Builds a binary from its Go module into the folder, where it appears complete or not at all. */
export async function buildAsset(name: AssetName, options: BuildOptions): Promise<void> {
  const { folder, tell } = options;
  const source = SOURCES[name];
  const started = performance.now();
  const elapsed = (): string => minutesAndSeconds(performance.now() - started);
  tell(`building ${name} ${source.version} from its source, which the first time takes minutes`);
  const heartBeat = setInterval(() => tell(`still building ${name}, for ${elapsed()} now`), HEART_BEAT_MILLIS);

  // Always the same folder: what a run left that was cut off is found and removed by the next one.
  const work = join(folder, 'work');
  try {
    await rm(work, { recursive: true, force: true });
    await mkdir(work);
    await writeWrapper(source, work, options.environment);
    const built = join(work, name);
    await runGo(buildArguments(source, built), { folder: work, environment: options.environment });
    await rename(built, join(folder, name));
    tell(`built ${name} in ${elapsed()}`);
  } finally {
    clearInterval(heartBeat);
    await rm(work, { recursive: true, force: true });
  }
}

async function writeWrapper(source: Source, work: string, environment: NodeJS.ProcessEnv): Promise<void> {
  const module = `${source.module}@${source.version}`;
  const download = await runGo(['mod', 'download', '-json', module], { folder: work, environment });
  const goMod = await readFile(Download.parse(JSON.parse(download)).GoMod, 'utf8');
  await writeFile(join(work, 'go.mod'), wrapperModule(source, goMod));
}

function minutesAndSeconds(millis: number): string {
  const seconds = Math.round(millis / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}
