import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { compilePolicy } from '../policy/compile.ts';
import { type ManifestEntry, toStored } from '../policy/documents.ts';
import { buildManifest } from '../policy/manifest.ts';
import type { ValidPolicy } from '../policy/resource.ts';
import type { RateLimitPolicySpec } from '../policy/schema/rate-limit-policy.ts';
import { validate } from '../policy/validate.ts';
import { publish, writeDocuments } from '../store/configuration.ts';
import type { Names } from '../store/names.ts';

/** Namespace of all policies here; the domain of the policy "a" is "bench.a". */
export const NAMESPACE = 'bench';

export type NamedSpecs = Readonly<Record<string, Omit<RateLimitPolicySpec, 'domain'>>>;

/** Puts policies in force in an empty Redis, the way the operator does it. */
export async function publishPolicies(redis: Redis, names: Names, owner: string, specs: NamedSpecs): Promise<void> {
  const policies = Object.entries(specs).map(([name, spec]) => toPolicy(name, spec));
  const documents = policies.map((policy) => toStored(compilePolicy(policy)));
  const entries = policies.map(({ kind, metadata: { namespace, name, uid, generation } }, index): ManifestEntry => ({
    kind,
    namespace,
    name,
    uid,
    generation,
    revision: 1,
    document: documents[index]?.name ?? '',
  }));
  const { index, shards } = buildManifest(entries);
  const all = [index, ...shards, ...documents];
  await writeDocuments(redis, names, all);
  await publish(redis, names, {
    owner,
    seen: undefined,
    next: { incarnation: randomUUID(), epoch: 1, revision: 1, manifest: index.name },
    becoming: all.map(({ name }) => name),
    leaving: [],
  });
}

/** Only what users could write is measured: the same validation decides. */
function toPolicy(name: string, spec: NamedSpecs[string]): ValidPolicy {
  const metadata = { namespace: NAMESPACE, name, uid: name, generation: 1, creationTimestamp: '2026-01-01T00:00:00Z' };
  const raw = { kind: 'RateLimitPolicy', metadata, spec: { ...spec, domain: `${NAMESPACE}.${name}` } } as const;
  const validation = validate(raw);
  if (!validation.ok) throw new Error(`policy ${name}: ${JSON.stringify(validation.problems)}`);
  if (validation.resource.kind !== 'RateLimitPolicy') throw new Error(`policy ${name} is no policy`);
  return validation.resource;
}
