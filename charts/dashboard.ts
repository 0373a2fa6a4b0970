// The Grafana dashboard of chart sluice. Panels read only metrics that the code exports: test/chart/metrics.test.ts.

type Panel = {
  readonly title: string;
  readonly about: string;
  readonly unit: string;
  /** PromQL by legend. */
  readonly queries: Readonly<Record<string, string>>;
};

const HERE = 'namespace=~"$namespace"';

const panels: readonly Panel[] = [
  {
    title: 'Decisions',
    about: 'What is answered, by action.',
    unit: 'reqps',
    queries: { '{{action}}': `sum by (action) (rate(sluice_decisions_total{${HERE}}[$__rate_interval]))` },
  },
  {
    title: 'Denials by policy',
    about: 'The ten policies that deny most.',
    unit: 'reqps',
    queries: {
      '{{policy}} {{reason}}': `topk(10, sum by (policy, reason) (rate(sluice_decisions_total{${HERE},action!="ALLOW"}[$__rate_interval])))`,
    },
  },
  {
    title: 'Not decided as written',
    about: 'Decisions of failure policies, and errors of Redis behind them. Zero when all is well.',
    unit: 'reqps',
    queries: {
      '{{reason}}': `sum by (reason) (rate(sluice_decisions_total{${HERE},reason=~"FAIL_OPEN|FAIL_CLOSED|LOCAL_FALLBACK|LOCAL_FALLBACK_EXCEEDED|IDENTITY_UNAVAILABLE"}[$__rate_interval]))`,
      'error {{code}}': `sum by (code) (rate(sluice_store_errors_total{${HERE}}[$__rate_interval]))`,
    },
  },
  {
    title: 'Time of a decision',
    about: 'From a parsed request to its decision.',
    unit: 's',
    queries: Object.fromEntries(
      [0.5, 0.99].map((quantile) => [
        `p${quantile * 100}`,
        `histogram_quantile(${quantile}, sum by (le) (rate(sluice_decision_duration_seconds_bucket{${HERE}}[$__rate_interval])))`,
      ]),
    ),
  },
  {
    title: 'CPU of each limiter',
    about: 'One is all that a pod can use.',
    unit: 'percentunit',
    queries: {
      '{{pod}}': `rate(process_cpu_seconds_total{${HERE}}[$__rate_interval]) and on (namespace, pod) sluice_ready`,
    },
  },
  {
    title: 'Lag of the event loop',
    about: 'How late a limiter comes to its work.',
    unit: 's',
    queries: { '{{pod}}': `nodejs_eventloop_lag_p99_seconds{${HERE}} and on (namespace, pod) sluice_ready` },
  },
  {
    title: 'Revision',
    about: 'One line when every pod enforces what is published.',
    unit: 'none',
    queries: {
      '{{pod}}': `sluice_snapshot_revision{${HERE}}`,
      published: `max(sluice_published_revision{${HERE}})`,
    },
  },
  {
    title: 'Rules that lack their input',
    about: 'Requests to which a rule did not apply because they do not carry what it counts by.',
    unit: 'reqps',
    queries: {
      '{{policy}} {{rule}} {{input}}': `topk(10, sum by (policy, rule, input) (rate(sluice_rule_input_missing_total{${HERE}}[$__rate_interval])))`,
    },
  },
  {
    title: 'Objects that are not as they should be',
    about: 'Policies that were refused or are not enforced.',
    unit: 'none',
    queries: {
      '{{kind}} not {{condition}}': `max by (kind, condition) (sluice_objects{${HERE},condition=~"Accepted|Enforced",status="False"}) > 0`,
    },
  },
  {
    title: 'From edit to Enforced',
    about: 'How long it takes until every pod acknowledges an edit.',
    unit: 's',
    queries: {
      p99: `histogram_quantile(0.99, sum by (le) (rate(sluice_propagation_seconds_bucket{${HERE}}[$__rate_interval])))`,
    },
  },
];

/** As Grafana imports it. */
export function dashboard(): object {
  return {
    uid: 'sluice',
    title: 'Sluice',
    tags: ['sluice'],
    schemaVersion: 39,
    refresh: '30s',
    time: { from: 'now-1h', to: 'now' },
    templating: {
      list: [
        { name: 'datasource', type: 'datasource', query: 'prometheus' },
        {
          name: 'namespace',
          type: 'query',
          datasource: { type: 'prometheus', uid: '${datasource}' },
          query: 'label_values(sluice_ready, namespace)',
          multi: true,
          includeAll: true,
          refresh: 2,
        },
      ],
    },
    panels: panels.map(panelAt),
  };
}

function panelAt({ title, about, unit, queries }: Panel, at: number): object {
  return {
    id: at + 1,
    type: 'timeseries',
    title,
    description: about,
    datasource: { type: 'prometheus', uid: '${datasource}' },
    gridPos: { x: (at % 2) * 12, y: Math.floor(at / 2) * 8, w: 12, h: 8 },
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    targets: Object.entries(queries).map(([legendFormat, expr], index) => ({
      refId: String.fromCodePoint(65 + index),
      expr,
      legendFormat,
    })),
  };
}
