// A real API server for tests: this file starts one and hands out its kubeconfig and a kubectl. assets.ts knows where the
// programs come from, prepare.ts is the command that gets them; the rest serves these.
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { get as getHttp, request as requestHttp } from 'node:http';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { get as getHttps } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { eventually } from '../harness/eventually.ts';
import { findAsset } from './assets.ts';
import { startChild, tail } from './child.ts';
import type { Child } from './child.ts';
import { writeCredentials } from './credentials.ts';
import type { Credentials } from './credentials.ts';
import { kubectlWith } from './kubectl.ts';
import type { Kubectl } from './kubectl.ts';
import { choosePort } from './port.ts';

/**
 * A kube-apiserver with an etcd: RBAC is on, and no controllers run. So nothing is garbage-collected, a deleted namespace
 * stays Terminating, a Deployment makes no pods; pods need no service account.
 */
export type ControlPlane = AsyncDisposable & {
  readonly serverUrl: string;
  /** A kubeconfig of a user who may do everything. */
  readonly kubeconfigPath: string;
  /** That user's token. */
  readonly token: string;
  /** What the server's certificate is verified with. */
  readonly caPath: string;
  /** Resolves with stdout. A failure is an Error with stderr, or with `expectFailure` what it resolves with. */
  readonly kubectl: Kubectl;
  /** Kills the API server; etcd keeps the data. */
  stopApiServer(): Promise<void>;
  /** Starts the API server again, at the same URL. */
  startApiServer(): Promise<void>;
  /** Throws away the certificate of the API server while that is stopped: it makes another one when it starts. */
  rotateCertificate(): Promise<void>;
  /** Makes etcd forget all that it has kept of earlier versions. */
  compact(): Promise<void>;
  /** Ends everything and removes its files. */
  stop(): Promise<void>;
};

/** Starts a control plane of this test's own, and resolves when it is ready. */
export async function startControlPlane(): Promise<ControlPlane> {
  const binaries: Binaries = {
    etcd: await findAsset('etcd'),
    apiServer: await findAsset('kube-apiserver'),
    kubectl: await findAsset('kubectl'),
  };
  const folder = await mkdtemp(join(tmpdir(), 'sluice-api-'));
  const port = await choosePort();
  const credentials = await writeCredentials(folder, urlOf(port));
  const controlPlane = new RunningControlPlane({ binaries, folder, port, credentials });
  try {
    await controlPlane.startEtcd();
    await controlPlane.startApiServer();
    return controlPlane;
  } catch (error) {
    await controlPlane.stop();
    throw error;
  }
}

type Binaries = { readonly etcd: string; readonly apiServer: string; readonly kubectl: string };
type Site = {
  readonly binaries: Binaries;
  readonly folder: string;
  readonly port: number;
  readonly credentials: Credentials;
};

const READY_MILLIS = 120_000;
const PROBE_MILLIS = 10_000;

// etcd has no password: a socket in a folder that only we may enter keeps others out, and needs no port. The name has
// the form of host and port because etcd checks for that. Systems allow for some 100 characters with the folder.
const ETCD_SOCKET = 'etcd:0';

class RunningControlPlane implements ControlPlane {
  readonly serverUrl: string;
  readonly kubeconfigPath: string;
  readonly token: string;
  readonly caPath: string;
  readonly kubectl: Kubectl;
  readonly #site: Site;
  #etcd: Child | undefined;
  #apiServer: Child | undefined;
  readonly #atExit: () => void;

  constructor(site: Site) {
    const { binaries, credentials, folder, port } = site;
    this.#site = site;
    this.serverUrl = urlOf(port);
    this.kubeconfigPath = credentials.kubeconfigPath;
    this.token = credentials.token;
    this.caPath = credentials.caPath;
    this.kubectl = kubectlWith(binaries.kubectl, credentials.kubeconfigPath, folder);
    this.#atExit = () => {
      this.#apiServer?.killNow();
      this.#etcd?.killNow();
      // Retries, because they may write until they are gone.
      rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
    };
    process.once('exit', this.#atExit);
  }

  async startEtcd(): Promise<void> {
    const { binaries, folder } = this.#site;
    this.#etcd = this.#start('etcd', binaries.etcd, etcdArguments());
    await this.#waitFor('etcd', this.#etcd, () =>
      probe((signal) => getHttp({ socketPath: join(folder, ETCD_SOCKET), path: '/health', agent: false, signal })),
    );
  }

  async startApiServer(): Promise<void> {
    const { binaries, credentials, port } = this.#site;
    if (this.#apiServer !== undefined && this.#apiServer.ending() === undefined) throw new Error('the API server runs');
    this.#apiServer = this.#start('kube-apiserver', binaries.apiServer, apiServerArguments(port, credentials));
    const headers = { authorization: `Bearer ${credentials.token}` };
    await this.#waitFor('kube-apiserver', this.#apiServer, async () => {
      const ca = await readFile(credentials.caPath);
      await probe((signal) => getHttps(`${this.serverUrl}/readyz`, { ca, headers, agent: false, signal }));
    });
  }

  async stopApiServer(): Promise<void> {
    await this.#apiServer?.kill();
    this.#apiServer = undefined;
  }

  async rotateCertificate(): Promise<void> {
    if (this.#apiServer !== undefined) throw new Error('the API server runs');
    await rm(this.#site.credentials.certificates, { recursive: true });
    await mkdir(this.#site.credentials.certificates);
  }

  async compact(): Promise<void> {
    const socketPath = join(this.#site.folder, ETCD_SOCKET);
    const { header } = await askEtcd(socketPath, '/v3/maintenance/status', {});
    await askEtcd(socketPath, '/v3/kv/compaction', { revision: header.revision, physical: true });
  }

  async stop(): Promise<void> {
    await this.stopApiServer();
    await this.#etcd?.kill();
    this.#etcd = undefined;
    process.off('exit', this.#atExit);
    await rm(this.#site.folder, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #start(name: string, binary: string, args: readonly string[]): Child {
    const { folder } = this.#site;
    const log = join(folder, `${name}.log`);
    // No environment: etcd takes ETCD_... from it for options.
    return startChild(binary, args, { cwd: folder, environment: {}, stdout: log, stderr: log });
  }

  /** Resolves once `check` does; rejects, with the end of its log, when the process ends or the deadline passes. */
  async #waitFor(name: string, child: Child, check: () => Promise<void>): Promise<void> {
    const why = await eventually(async () => {
      const ending = child.ending();
      if (ending === undefined) await check();
      return ending?.how;
    }, READY_MILLIS).catch((error: unknown) => `is not ready: ${String(error)}`);
    if (why === undefined) return;
    throw new Error(`${name} ${why}. The end of its log:\n${await tail(join(this.#site.folder, `${name}.log`))}`);
  }
}

function urlOf(port: number): string {
  return `https://127.0.0.1:${port}`;
}

function etcdArguments(): readonly string[] {
  return [
    '--name=test',
    '--data-dir=etcd',
    // The data is thrown away after a crash of the machine, anyway.
    '--unsafe-no-fsync',
    '--log-level=warn',
    `--listen-client-urls=unix://${ETCD_SOCKET}`,
    `--advertise-client-urls=unix://${ETCD_SOCKET}`,
    // It has no peers; both have to be given.
    '--listen-peer-urls=unix://peers:0',
    '--initial-advertise-peer-urls=http://localhost:2380',
    '--initial-cluster=test=http://localhost:2380',
  ];
}

function apiServerArguments(port: number, credentials: Credentials): readonly string[] {
  return [
    `--etcd-servers=unix://${ETCD_SOCKET}`,
    '--bind-address=127.0.0.1',
    `--secure-port=${port}`,
    `--cert-dir=${credentials.certificates}`,
    '--authorization-mode=RBAC',
    `--token-auth-file=${credentials.tokenFile}`,
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${credentials.serviceAccountKey}`,
    `--service-account-signing-key-file=${credentials.serviceAccountKey}`,
    '--service-cluster-ip-range=10.0.0.0/24',
    // Without an address to advertise it looks for a default route, and ends if there is none. An endpoint of the Service
    // "kubernetes" may not be a loopback address, so that has none.
    '--advertise-address=127.0.0.1',
    '--endpoint-reconciler-type=none',
    // It would refuse every pod: the controller that makes the service accounts does not run.
    '--disable-admission-plugins=ServiceAccount',
  ];
}

type EtcdAnswer = { readonly header: { readonly revision: string } };

/** One call of etcd's API for those who do not speak gRPC. */
async function askEtcd(socketPath: string, path: string, body: object): Promise<EtcdAnswer> {
  const request = requestHttp({ socketPath, path, method: 'POST', agent: false });
  request.end(JSON.stringify(body));
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const answer = await text(response);
  if (response.statusCode !== 200) throw new Error(`etcd answers ${path} with ${response.statusCode}: ${answer}`);
  return JSON.parse(answer) as EtcdAnswer;
}

/** Resolves if the answer to the request is 200. */
function probe(request: (signal: AbortSignal) => ClientRequest): Promise<void> {
  return new Promise((resolve, reject) => {
    const onResponse = (response: IncomingMessage): void => {
      response.resume();
      if (response.statusCode === 200) resolve();
      else reject(new Error(`it answers with status ${response.statusCode}`));
    };
    request(AbortSignal.timeout(PROBE_MILLIS)).once('response', onResponse).once('error', reject);
  });
}
