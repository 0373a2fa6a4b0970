import { createHash } from 'node:crypto';
import { isAlias, isMap, LineCounter, type Node, parseAllDocuments, visit } from 'yaml';
import { z } from 'zod';
import { problemsOf } from '../../policy/problems.ts';
import type { RawResource } from '../../policy/resource.ts';
import { label } from '../../policy/schema/fields.ts';
import { allKinds, type ResourceKind, resourceKinds } from '../../policy/schema/kinds.ts';
import { GROUP, VERSION } from '../../policy/schema/to-crd.ts';

/** A place in a file, from 1. */
export type Place = { readonly line: number; readonly column: number };

export type FileProblem = { readonly file: string; readonly place: Place | undefined; readonly message: string };

/** An object of a file; `placeOf` finds a field by its path, or the nearest thing above it that is there. */
export type FileResource = { readonly resource: RawResource; readonly placeOf: (path: string) => Place | undefined };

const envelope = z.object({
  apiVersion: z.literal(`${GROUP}/${VERSION}`),
  kind: z.enum(allKinds),
  metadata: z.object({
    name: z.string().regex(/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/),
    namespace: label.optional(),
    labels: z.record(z.string().max(317), z.string().max(63)).optional(),
  }),
  spec: z.unknown(),
});

/** What a file of YAML holds, and everything in it that is no resource of ours. */
export function readYaml(file: string, text: string): { resources: FileResource[]; problems: FileProblem[] } {
  const lines = new LineCounter();
  const placeAt = (offset: number | undefined): Place | undefined => {
    if (offset === undefined) return undefined;
    const { line, col } = lines.linePos(offset);
    return { line, column: col };
  };
  const resources: FileResource[] = [];
  const problems: FileProblem[] = [];
  for (const document of parseAllDocuments(text, { lineCounter: lines, uniqueKeys: true })) {
    const reading = readOne(document);
    if ('offset' in reading) {
      problems.push({ file, place: placeAt(reading.offset), message: reading.message });
    } else if (reading.resource !== undefined) {
      resources.push({
        resource: reading.resource,
        placeOf: (path) => placeAt(offsetOf(document.contents, segmentsOf(path))),
      });
    }
  }
  return { resources, problems };
}

type Reading =
  | { readonly resource: RawResource | undefined }
  | { readonly offset: number | undefined; readonly message: string };

function readOne(document: ReturnType<typeof parseAllDocuments>[number]): Reading {
  const { contents, errors } = document;
  const [error] = errors;
  if (error !== undefined) return { offset: error.pos[0], message: error.message.split('\n')[0] ?? error.code };
  if (contents !== null && hasAlias(contents))
    return { offset: contents.range?.[0], message: 'aliases are not allowed' };
  const content: unknown = document.toJS();
  // Nothing between two separators.
  if (content === null) return { resource: undefined };
  const parsed = envelope.safeParse(content);
  if (parsed.success) return { resource: toRaw(parsed.data) };
  const [problem] = problemsOf(parsed.error, content, '');
  return {
    offset: offsetOf(contents, segmentsOf(problem?.path ?? '')),
    message: `${problem?.path || 'the document'}: ${problem?.message ?? 'is no resource'}`,
  };
}

/** The generation is not known from one reading: the directory counts edits. */
function toRaw(parsed: z.output<typeof envelope>): RawResource {
  const { kind, metadata, spec } = parsed;
  const namespace = isClusterScoped(kind) ? '' : (metadata.namespace ?? 'default');
  const uid = createHash('sha256').update(`${kind}/${namespace}/${metadata.name}`).digest('hex').slice(0, 32);
  const { name, labels } = metadata;
  const about = { namespace, name, uid, generation: 1, creationTimestamp: '' };
  return { kind, metadata: labels === undefined ? about : { ...about, labels }, spec };
}

const isClusterScoped = (kind: ResourceKind): boolean => resourceKinds[kind].scope === 'Cluster';

function hasAlias(root: Node): boolean {
  let found = false;
  visit(root, (_key, node) => {
    if (!isAlias(node)) return undefined;
    found = true;
    return visit.BREAK;
  });
  return found;
}

/** `spec.rules[0].limits` as its keys. */
function segmentsOf(path: string): (string | number)[] {
  return [...path.matchAll(/([^.[\]]+)|\[(\d+)\]/g)].map(([, name, index]) =>
    index === undefined ? (name ?? '') : Number(index),
  );
}

/** Where the deepest part of a path begins that is there: the key of a mapping, or the item of a list. */
function offsetOf(root: Node | null, segments: readonly (string | number)[]): number | undefined {
  let node: unknown = root;
  let offset = root?.range?.[0];
  for (const segment of segments) {
    if (isMap(node)) {
      const pair = node.items.find((item) => String(item.key) === String(segment));
      if (pair === undefined) return offset;
      offset = rangeStart(pair.key) ?? offset;
      node = pair.value;
    } else {
      node =
        typeof node === 'object' && node !== null && 'get' in node && typeof node.get === 'function'
          ? node.get(segment, true)
          : undefined;
      if (node === undefined) return offset;
      offset = rangeStart(node) ?? offset;
    }
  }
  return offset;
}

function rangeStart(node: unknown): number | undefined {
  if (typeof node !== 'object' || node === null || !('range' in node) || !Array.isArray(node.range)) return undefined;
  const start: unknown = node.range[0];
  return typeof start === 'number' ? start : undefined;
}
