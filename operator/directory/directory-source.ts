import { type FSWatcher, readdirSync, readFileSync, watch } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { idOf, type Problem, type RawResource } from '../../policy/resource.ts';
import type { ResourceKind } from '../../policy/schema/kinds.ts';
import type { ResourceSource, SourceChange } from '../source.ts';
import { type FileProblem, type FileResource, readYaml } from './read-yaml.ts';

export type DirectoryEvents = {
  /** What files hold that is no resource at all; empty when everything can be read again. */
  onFileProblems(problems: readonly FileProblem[]): void;
  /** The status of an object changed. `placeOf` tells where a field stands: `file:line:column`. */
  onStatus(resource: RawResource, status: unknown, placeOf: (problem: Problem) => string): void;
};

type Known = { readonly raw: RawResource; readonly file: string; readonly placeOf: FileResource['placeOf'] };

const YAML_FILE = /^[^.].*\.ya?ml$/;

/** Not every file system tells of every change. */
const POLL_MILLIS = 2_000;
const SETTLE_MILLIS = 50;

/** All resources in the YAML files of a directory, followed as they are saved. Status stays in memory. */
export class DirectorySource implements ResourceSource {
  readonly #directory: string;
  readonly #events: DirectoryEvents;
  #objects = new Map<string, Known>();
  #texts: ReadonlyMap<string, string> = new Map();
  #problems: readonly FileProblem[] = [];
  #notify: (change: SourceChange) => void = () => undefined;
  #watcher: FSWatcher | undefined;
  #poll: NodeJS.Timeout | undefined;
  #settling: NodeJS.Timeout | undefined;
  #hasSynced = false;
  /** The highest generation of an object that is gone: one of the same name that comes later is not taken for it. */
  #highestGone = 0;

  constructor(directory: string, events: DirectoryEvents) {
    this.#directory = directory;
    this.#events = events;
  }

  start(onChange: (change: SourceChange) => void): void {
    this.#notify = onChange;
    this.#watcher = watch(this.#directory, () => this.#readSoon());
    this.#watcher.on('error', () => undefined);
    this.#poll = setInterval(() => this.#read(), POLL_MILLIS);
    this.#read();
  }

  stop(): Promise<void> {
    this.#notify = () => undefined;
    this.#watcher?.close();
    clearInterval(this.#poll);
    clearTimeout(this.#settling);
    return Promise.resolve();
  }

  hasSynced(): boolean {
    return this.#hasSynced;
  }

  list(kind: ResourceKind): readonly RawResource[] {
    return [...this.#objects.values()].map(({ raw }) => raw).filter((raw) => raw.kind === kind);
  }

  writeStatus(resource: RawResource, status: unknown): Promise<'recorded'> {
    const known = this.#objects.get(idOf(resource));
    if (known !== undefined) {
      this.#objects.set(idOf(resource), { ...known, raw: { ...known.raw, status } });
      this.#events.onStatus(resource, status, (problem) => {
        const place = known.placeOf(problem.path);
        return place === undefined ? known.file : `${known.file}:${place.line}:${place.column}`;
      });
    }
    return Promise.resolve('recorded');
  }

  /** Editors write in several steps; what they leave behind is what counts. */
  #readSoon(): void {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.#read(), SETTLE_MILLIS);
  }

  #read(): void {
    const texts = this.#readFiles();
    if (texts === undefined) return;
    if (this.#hasSynced && isDeepStrictEqual(texts, this.#texts)) return;
    const readings = [...texts].map(([file, text]) => ({ file, ...readYaml(file, text) }));
    const problems = readings.flatMap((reading) => reading.problems);
    const broken = new Set(problems.map((problem) => problem.file));
    const objects = new Map<string, Known>();
    for (const { file, resources } of readings) {
      for (const { resource, placeOf } of resources) this.#take(objects, problems, { raw: resource, file, placeOf });
    }
    this.#keepWhatWasIn(broken, objects);
    for (const [id, { raw }] of this.#objects) {
      if (!objects.has(id)) this.#highestGone = Math.max(this.#highestGone, raw.metadata.generation);
    }
    this.#texts = texts;
    this.#objects = objects;
    this.#hasSynced = true;
    if (!isDeepStrictEqual(problems, this.#problems)) this.#events.onFileProblems(problems);
    this.#problems = problems;
    this.#notify('spec');
  }

  /** Undefined if the directory cannot be read now: then what it held stays in force. */
  #readFiles(): ReadonlyMap<string, string> | undefined {
    try {
      return readFiles(this.#directory);
    } catch (error) {
      if (!this.#hasSynced) throw error;
      const message = error instanceof Error ? error.message : String(error);
      const problems = [{ file: this.#directory, place: undefined, message }];
      if (!isDeepStrictEqual(problems, this.#problems)) this.#events.onFileProblems(problems);
      this.#problems = problems;
      // Whatever is found when it is back is news.
      this.#texts = new Map();
      return undefined;
    }
  }

  #take(objects: Map<string, Known>, problems: FileProblem[], found: Known): void {
    const id = idOf(found.raw);
    const other = objects.get(id);
    if (other !== undefined) {
      const message = `${id} is defined in ${other.file} already`;
      problems.push({ file: found.file, place: found.placeOf('metadata.name'), message });
      return;
    }
    const before = this.#objects.get(id)?.raw;
    const isSame = before !== undefined && isDeepStrictEqual(before.spec, found.raw.spec);
    const generation = before === undefined ? this.#highestGone + 1 : before.metadata.generation + (isSame ? 0 : 1);
    const metadata = { ...found.raw.metadata, generation };
    objects.set(id, { ...found, raw: { ...found.raw, metadata, status: before?.status } });
  }

  /** A file that cannot be read in part deletes nothing: what it held stays as it was. */
  #keepWhatWasIn(broken: ReadonlySet<string>, objects: Map<string, Known>): void {
    for (const [id, known] of this.#objects) {
      if (broken.has(known.file) && !objects.has(id)) objects.set(id, known);
    }
  }
}

/** Name and text of every YAML file, in order of the names. */
function readFiles(directory: string): ReadonlyMap<string, string> {
  const texts = new Map<string, string>();
  const files = readdirSync(directory, { withFileTypes: true }).filter((entry) => !entry.isDirectory());
  for (const name of files.map((entry) => entry.name).toSorted()) {
    if (!YAML_FILE.test(name)) continue;
    const file = join(directory, name);
    try {
      texts.set(file, readFileSync(file, 'utf8'));
    } catch (error) {
      // Gone between the listing and the reading, as editors do when they replace a file: the next look sees it.
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    }
  }
  return texts;
}
