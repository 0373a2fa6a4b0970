// The one table of specs. `validate` (validate.test.ts) and a real API server (test/crds/api-server.test.ts) are both held
// to it, so that neither accepts what the other refuses. The parts are in cases/, one file for each part of the schema.
import type { RawResource } from '../../policy/resource.ts';
import { type ResourceKind, resourceKinds } from '../../policy/schema/kinds.ts';
import { metadataOf } from './builders.ts';
import { consumerCases } from './cases/consumer.ts';
import { domainCases } from './cases/domain.ts';
import { healthCases } from './cases/health.ts';
import { limitCases } from './cases/limit.ts';
import { matchCases } from './cases/match.ts';
import { orderCases } from './cases/order.ts';
import { overrideCases } from './cases/override.ts';
import { penaltyCases } from './cases/penalty.ts';
import { policyCases } from './cases/policy.ts';
import { rolloutCases } from './cases/rollout.ts';
import { ruleCases } from './cases/rule.ts';
import type { BadCase, GoodCase, SpecCase } from './cases/table.ts';

export type { BadCase, GoodCase, SpecCase } from './cases/table.ts';
export { semanticCases, type SemanticCase } from './cases/semantic.ts';

export const specCases: readonly SpecCase[] = [
  ...policyCases,
  ...ruleCases,
  ...rolloutCases,
  ...orderCases,
  ...penaltyCases,
  ...matchCases,
  ...limitCases,
  ...domainCases,
  ...overrideCases,
  ...healthCases,
  ...consumerCases,
];

export const goodCases = specCases.filter((entry): entry is GoodCase => entry.verdict === 'good');
export const badCases = specCases.filter((entry): entry is BadCase => entry.verdict === 'bad');

/** Namespace of the objects that carry these specs, which their domains belong to. */
export const CASE_NAMESPACE = 'payments';

/** The object that carries a spec, as a source delivers it. */
export function resourceWith(kind: ResourceKind, spec: unknown): RawResource {
  const namespace = resourceKinds[kind].scope === 'Cluster' ? '' : CASE_NAMESPACE;
  // A domain belongs to the namespace whose name its own begins with.
  const name = kind === 'RateLimitDomain' ? `${CASE_NAMESPACE}.under-test` : 'under-test';
  return { kind, metadata: metadataOf(namespace, name), spec };
}
