// The custom resource definitions as they are checked in, for tests.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import { allKinds, type ResourceKind, resourceKinds } from '../../policy/schema/kinds.ts';

/** The part of a structural schema that tests look at. */
export type Schema = {
  readonly type?: string | undefined;
  readonly description?: string | undefined;
  readonly properties?: Readonly<Record<string, Schema>> | undefined;
  readonly items?: Schema | undefined;
  readonly enum?: readonly unknown[] | undefined;
  readonly pattern?: string | undefined;
  readonly maxLength?: number | undefined;
  readonly maxItems?: number | undefined;
  readonly minimum?: number | undefined;
  readonly maximum?: number | undefined;
  readonly [other: string]: unknown;
};

const schema: z.ZodType<Schema> = z.lazy(() =>
  z.looseObject({
    type: z.string().optional(),
    description: z.string().optional(),
    properties: z.record(z.string(), schema).optional(),
    items: schema.optional(),
    enum: z.array(z.unknown()).optional(),
    pattern: z.string().optional(),
    maxLength: z.number().optional(),
    maxItems: z.number().optional(),
    minimum: z.number().optional(),
    maximum: z.number().optional(),
  }),
);

const definition = z.object({
  spec: z.object({ versions: z.tuple([z.object({ schema: z.object({ openAPIV3Schema: schema }) })]) }),
});

/** Where the definition of a kind is. */
export function fileOf(kind: ResourceKind): string {
  return join(import.meta.dirname, '..', '..', 'crds', `${resourceKinds[kind].plural}.yaml`);
}

/** What is at a path below the root of a kind; `[]` stands for the items of a list. */
export type Place = { readonly path: string; readonly schema: Schema };

/** Everything of all kinds, but what the API server itself defines: apiVersion, kind and metadata. */
export function allPlaces(): Place[] {
  return allKinds.flatMap((kind) => {
    const [version] = definition.parse(parse(readFileSync(fileOf(kind), 'utf8'))).spec.versions;
    const { properties = {} } = version.schema.openAPIV3Schema;
    return ['spec', 'status'].flatMap((name) => {
      const root = properties[name];
      return root === undefined ? [] : placesBelow({ path: `${kind}.${name}`, schema: root });
    });
  });
}

function placesBelow(place: Place): Place[] {
  const { path, schema: here } = place;
  const fields = Object.entries(here.properties ?? {}).map(([name, inner]) => ({
    path: `${path}.${name}`,
    schema: inner,
  }));
  const items = here.items === undefined ? [] : [{ path: `${path}[]`, schema: here.items }];
  return [place, ...[...fields, ...items].flatMap(placesBelow)];
}
