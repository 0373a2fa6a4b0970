import { createHash } from 'node:crypto';
import { isAlias, isMap, LineCounter, type Node, parseAllDocuments, visit } from 'yaml';
import { z } from 'zod';
import type { RawResource } from '../../policy/resource.ts';
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
    namespace: z.string().optional(),
  }),
  spec: z.unknown(),
});

/** What a file of YAML holds, and everything in it that is no resource of ours. */
export function readYaml(file: string, text: string): { resources: FileResource[]; problems: FileProblem[] } {
  const lines = new LineCounter();
  const resources: FileResource[] = [];
  const problems: FileProblem[] = [];
  const placeAt = (offset: number | undefined): Place | undefined => {
    if (offset === undefined) return undefined;
    const { line, col } = lines.linePos(offset);
    return { line, column: col };
  };
  for (const document of parseAllDocuments(text, { lineCounter: lines, uniqueKeys: true })) {
    const [error] = document.errors;
    if (error !== undefined) {
      problems.push({ file, place: placeAt(error.pos[0]), message: error.message.split('\n')[0] ?? error.code });
      continue;
    }
    if (document.contents === null) continue;
    if (hasAlias(document.contents)) {
      problems.push({ file, place: placeAt(document.contents.range?.[0]), message: 'aliases are not allowed' });
      continue;
    }
    const parsed = envelope.safeParse(document.toJS());
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      const path = issue?.path.join('.') ?? '';
      problems.push({
        file,
        place: placeAt(document.contents.range?.[0]),
        message: `${path}: ${issue?.message ?? 'not a resource'}`,
      });
      continue;
    }
    const { contents } = document;
    resources.push({
      resource: toRaw(parsed.data),
      placeOf: (path) => placeAt(offsetOf(contents, segmentsOf(path))),
    });
  }
  return { resources, problems };
}

/** The generation is not known from one reading: the directory counts edits. */
function toRaw(parsed: z.output<typeof envelope>): RawResource {
  const { kind, metadata, spec } = parsed;
  const namespace = isClusterScoped(kind) ? '' : (metadata.namespace ?? 'default');
  const uid = createHash('sha256').update(`${kind}/${namespace}/${metadata.name}`).digest('hex').slice(0, 32);
  return { kind, metadata: { namespace, name: metadata.name, uid, generation: 1, creationTimestamp: '' }, spec };
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
function offsetOf(root: Node, segments: readonly (string | number)[]): number | undefined {
  let node: unknown = root;
  let offset = root.range?.[0];
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
