import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/** The files that an API server and its clients know each other by. */
export type Credentials = {
  /** A user of the group system:masters, to whom everything is allowed. */
  readonly token: string;
  readonly tokenFile: string;
  readonly serviceAccountKey: string;
  /** Where the API server writes the certificates that it makes for itself. */
  readonly certificates: string;
  /** Its certificate and the authority that signed it; written by the API server when it first starts. */
  readonly caPath: string;
  readonly kubeconfigPath: string;
};

const OWNER_ONLY = { mode: 0o600 };

/** Writes new credentials for the server at the URL into the folder. */
export async function writeCredentials(folder: string, serverUrl: string): Promise<Credentials> {
  const certificates = join(folder, 'certificates');
  const credentials: Credentials = {
    token: randomBytes(24).toString('hex'),
    tokenFile: join(folder, 'tokens.csv'),
    serviceAccountKey: join(folder, 'service-account.key'),
    certificates,
    caPath: join(certificates, 'apiserver.crt'),
    kubeconfigPath: join(folder, 'kubeconfig.json'),
  };
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  await mkdir(certificates);
  await writeFile(credentials.serviceAccountKey, privateKey.export({ type: 'sec1', format: 'pem' }), OWNER_ONLY);
  await writeFile(credentials.tokenFile, `${credentials.token},admin,admin,"system:masters"\n`, OWNER_ONLY);
  await writeFile(credentials.kubeconfigPath, JSON.stringify(kubeconfig(serverUrl, credentials)), OWNER_ONLY);
  return credentials;
}

function kubeconfig(server: string, { caPath, token }: Credentials): object {
  return {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'test',
    clusters: [{ name: 'test', cluster: { server, 'certificate-authority': caPath } }],
    users: [{ name: 'admin', user: { token } }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'admin' } }],
  };
}
