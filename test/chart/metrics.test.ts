import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { dashboard } from '../../charts/dashboard.ts';

const ROOT = join(import.meta.dirname, '../..');

type Alert = {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string };
};
const alerts = (
  parse(readFileSync(join(ROOT, 'charts/sluice/alerts.yaml'), 'utf8')) as { groups: { rules: Alert[] }[] }
).groups.flatMap(({ rules }) => rules);

const runbooks = readFileSync(join(ROOT, 'docs/operations.md'), 'utf8');
const promtoolCases = readFileSync(join(ROOT, 'test/chart/alerts.promtool.yaml'), 'utf8');

type Panel = { readonly title: string; readonly targets: readonly { readonly expr: string }[] };
const panels = (dashboard() as { panels: Panel[] }).panels;

/** Names of metrics in the sources of limiter and operator, and those that prom-client collects by itself. */
function exportedMetrics(): Set<string> {
  const names = new Set<string>();
  for (const folder of ['limiter', 'operator']) {
    for (const file of readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts')) continue;
      const code = readFileSync(join(ROOT, folder, file), 'utf8');
      for (const [, name = ''] of code.matchAll(/'([a-z]+(?:_[a-z]+)+)'/g)) names.add(name);
    }
  }
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  for (const { name } of registry.getMetricsAsArray()) names.add(name);
  return names;
}

const METRIC = /\b(?:sluice|process|nodejs|leader_election|workqueue|controller_runtime|rest_client)_[a-z0-9_]+/g;

/** The metrics that an expression reads, without what a histogram appends. */
const metricsIn = (expr: string): string[] =>
  (expr.match(METRIC) ?? []).map((name) => name.replace(/_(?:bucket|sum|count)$/, ''));

const exported = exportedMetrics();

// PromQL is judged by promtool (promtool.ts, gate "alerts and dashboard" of .ci/run), where that can be had.
describe('an alert', () => {
  it.each(alerts)('reads metrics that the code exports, and has a runbook and a case: $alert', (alert) => {
    expect(metricsIn(alert.expr).length).toBeGreaterThan(0);
    expect(metricsIn(alert.expr).filter((name) => !exported.has(name))).toEqual([]);
    expect(runbooks).toContain(`\n### ${alert.alert}\n`);
    expect(promtoolCases).toContain(alert.alert);
    expect(['critical', 'warning']).toContain(alert.labels.severity);
    expect(alert.annotations.summary).toMatch(/^[A-Z]/);
  });

  it('is there for every runbook', () => {
    const described = [...runbooks.matchAll(/^### (Sluice\w+)$/gm)].map(([, name]) => name);
    expect(described).toEqual(alerts.map(({ alert }) => alert));
  });
});

describe('a panel of the dashboard', () => {
  it.each(panels)('reads metrics that the code exports: $title', ({ targets }) => {
    expect(targets.length).toBeGreaterThan(0);
    for (const { expr } of targets) {
      expect(metricsIn(expr).length).toBeGreaterThan(0);
      expect(metricsIn(expr).filter((name) => !exported.has(name))).toEqual([]);
    }
  });
});
