// What operator and limiter have in common, the pepper among it.
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { parseRedisUrl, REDIS_URL_FORMS } from '../../store/redis-target.ts';
import { parse, type Raw, type Setting, setting, SettingsError, type Values } from './setting.ts';

export const port = z.coerce.number().int().min(0).max(65_535);
export const label = z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, 'must be a DNS label');

export const dnsName = z.string().regex(/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/, 'must be a DNS name');

export const shared = {
  redisUrl: setting(
    'redis-url',
    `where Redis is: ${REDIS_URL_FORMS}`,
    z.string().refine((text) => parseRedisUrl(text) !== undefined, { error: `must be ${REDIS_URL_FORMS}` }),
    'redis://127.0.0.1:6379',
  ),
  installation: setting('installation', 'tells installations on one Redis apart: a DNS label', label, 'default'),
  owner: setting(
    'owner',
    'whose configuration this is; a Redis of another owner is refused (default: the installation)',
    z.string().min(1).max(253),
  ),
  pepper: setting(
    'pepper',
    'secret with which API keys are hashed, at least 16 characters; prefer --pepper-file',
    z.string().min(16),
  ),
  pepperFile: setting('pepper-file', 'file that holds the pepper', z.string()),
  logLevel: setting(
    'log-level',
    'trace, debug, info, warn, error or fatal',
    z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal']),
    'info',
  ),
} as const;

export const serving = {
  host: setting('host', 'address to listen on', z.string(), '0.0.0.0'),
  opsPort: setting('ops-port', 'port of probes and metrics', port, '9090'),
  podName: setting(
    'pod-name',
    'name of this pod, unique in the installation (default: the host name)',
    z.string().min(1).max(253),
  ),
} as const;

const PEPPER_MISSING = '--pepper-file (SLUICE_PEPPER_FILE) or --pepper (SLUICE_PEPPER) is required';
const PEPPER_TWICE =
  '--pepper-secret (SLUICE_PEPPER_SECRET): must not be given together with --pepper or --pepper-file';

export type SharedSettings = {
  readonly redisUrl: string;
  readonly installation: string;
  readonly owner: string;
  readonly pepper: string;
  readonly logLevel: string;
};

export function sharedSettings(values: Values): SharedSettings {
  return {
    redisUrl: String(values['redisUrl']),
    installation: String(values['installation']),
    owner: String(values['owner'] ?? values['installation']),
    pepper: String(values['pepper']),
    logLevel: String(values['logLevel']),
  };
}

/** The values of all that is given, and the peppers from their files. Throws SettingsError with everything that is wrong. */
export function parseAll(settings: Readonly<Record<string, Setting>>, raw: Raw): Values {
  const errors: string[] = [];
  const values = parse(settings, raw, errors);
  const pepperFrom = (name: 'pepperFile' | 'previousPepperFile'): string | undefined => {
    const [one, file] = [settings[name], values[name]];
    return one === undefined || file === undefined ? undefined : readPepper(one, String(file), errors);
  };
  if (values['pepperSecret'] !== undefined) {
    if (raw['pepper'] !== undefined || raw['pepperFile'] !== undefined) errors.push(PEPPER_TWICE);
  } else if (values['pepperFile'] !== undefined) values['pepper'] = pepperFrom('pepperFile');
  else if (raw['pepper'] === undefined) errors.push(PEPPER_MISSING);
  values['previousPepper'] = pepperFrom('previousPepperFile');
  if (errors.length > 0) throw new SettingsError(errors.join('\n'));
  return values;
}

function readPepper({ flag, env }: Setting, file: string, errors: string[]): string | undefined {
  const refuse = (why: string): void => void errors.push(`--${flag} (${env}) "${file}": ${why}`);
  try {
    const pepper = readFileSync(file, 'utf8').trim();
    if (pepper.length >= 16) return pepper;
    refuse('must hold at least 16 characters');
  } catch (error) {
    refuse(error instanceof Error ? error.message : String(error));
  }
  return undefined;
}
