import { createHash } from 'node:crypto';

export const ASSET_NAMES = ['kube-apiserver', 'etcd', 'kubectl', 'helm'] as const;
export type AssetName = (typeof ASSET_NAMES)[number];

/** A Go module at one version, a `main` package in it, and the string variables that the linker sets there. */
export type Source = {
  readonly module: string;
  readonly version: string;
  readonly package: string;
  readonly variables: Readonly<Record<string, string>>;
};

// Unless told its version, a Kubernetes binary says v0.0.0, and a chart's `kubeVersion` refuses that.
const KUBERNETES = {
  module: 'k8s.io/kubernetes',
  version: 'v1.36.3',
  variables: {
    'k8s.io/component-base/version.gitVersion': 'v1.36.3',
    'k8s.io/component-base/version.gitMajor': '1',
    'k8s.io/component-base/version.gitMinor': '36',
    'k8s.io/component-base/version.gitTreeState': 'clean',
  },
} as const;

/** Where each binary comes from. */
export const SOURCES: Readonly<Record<AssetName, Source>> = {
  'kube-apiserver': { ...KUBERNETES, package: 'k8s.io/kubernetes/cmd/kube-apiserver' },
  kubectl: { ...KUBERNETES, package: 'k8s.io/kubernetes/cmd/kubectl' },
  etcd: {
    module: 'go.etcd.io/etcd/server/v3',
    version: 'v3.6.8',
    package: 'go.etcd.io/etcd/server/v3',
    variables: {},
  },
  helm: {
    module: 'helm.sh/helm/v4',
    version: 'v4.2.3',
    package: 'helm.sh/helm/v4/cmd/helm',
    variables: { 'helm.sh/helm/v4/internal/version.version': 'v4.2.3' },
  },
};

/**
 * What Go is run with. Static binaries need no C compiler. GOTOOLCHAIN lets an older Go fetch the one that a module asks
 * for, also where the machine's own setting forbids it, as the images of Go do.
 */
export const GO_ENVIRONMENT = {
  CGO_ENABLED: '0',
  GOFLAGS: '-trimpath',
  GOWORK: 'off',
  GOTOOLCHAIN: 'auto',
} as const;

/** The arguments that build the source's package to the file. */
export function buildArguments(source: Source, file: string): readonly string[] {
  const variables = Object.entries(source.variables).map(([name, value]) => `-X ${name}=${value}`);
  return ['build', '-mod=mod', '-o', file, '-ldflags', ['-s -w', ...variables].join(' '), source.package];
}

/**
 * The go.mod of a throw-away main module to build the source in. `go install` refuses a module whose go.mod replaces
 * others, and Kubernetes does: there its staging modules are folders of the repository, here the published modules.
 */
export function wrapperModule(source: Source, goMod: string): string {
  const go = /^go (\S+)$/m.exec(goMod)?.[1];
  if (go === undefined) throw new Error(`the go.mod of ${source.module} ${source.version} names no version of Go`);
  const staged = goMod.matchAll(/^\s*(?:replace\s+)?(\S+) => \.\/staging\/\S+$/gm);
  const published = source.version.replace(/^v1\./, 'v0.');
  return [
    'module sluice.invalid/test',
    `go ${go}`,
    `require ${source.module} ${source.version}`,
    ...Array.from(staged, ([, name = '']) => `replace ${name} => ${name} ${published}`),
    '',
  ].join('\n');
}

/** Changes whenever something above does that changes a binary. */
export function recipeHash(): string {
  const recipe = ASSET_NAMES.map((name) => [name, SOURCES[name], buildArguments(SOURCES[name], name)]);
  return createHash('sha256')
    .update(JSON.stringify([recipe, GO_ENVIRONMENT]))
    .digest('hex')
    .slice(0, 8);
}
