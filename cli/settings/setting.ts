// One setting: a flag, its environment variable, and what it may be.
import { Option } from 'commander';
import { z } from 'zod';

/** Wrong settings; the message lists all of them, one per line. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError';
}

export type Setting = {
  readonly flag: string;
  readonly env: string;
  readonly about: string;
  readonly schema: z.ZodType<string | number>;
  readonly preset?: string;
};

type Value = string | number | undefined;
export type Values = Readonly<Record<string, Value>>;
export type Raw = Readonly<Record<string, string | undefined>>;

export function setting(flag: string, about: string, schema: z.ZodType<string | number>, preset?: string): Setting {
  const env = `SLUICE_${flag.replaceAll('-', '_').toUpperCase()}`;
  return { flag, env, about, schema, ...(preset === undefined ? {} : { preset }) };
}

export function toOptions(settings: Readonly<Record<string, Setting>>): Option[] {
  return Object.values(settings).map(({ flag, env, about, preset }) => {
    const option = new Option(`--${flag} <value>`, about).env(env);
    return preset === undefined ? option : option.default(preset);
  });
}

/** Several values in one setting, separated by commas. */
export function listOf(isAllowed: (item: string) => boolean, allowed: string) {
  return z
    .string()
    .refine((text) => itemsOf(text).every(isAllowed), { error: `must be ${allowed}, separated by commas` });
}

export const itemsOf = (text: unknown): readonly string[] =>
  String(text)
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');

/** What may hold a secret is not repeated. */
const SECRET: ReadonlySet<string> = new Set(['pepper', 'redisUrl']);

/** The values of those that are given; what is wrong is added to the errors. */
export function parse(settings: Readonly<Record<string, Setting>>, raw: Raw, errors: string[]): Record<string, Value> {
  const values: Record<string, Value> = {};
  for (const [name, { flag, env, schema }] of Object.entries(settings)) {
    if (raw[name] === undefined) continue;
    const parsed = schema.safeParse(raw[name]);
    if (parsed.success) values[name] = parsed.data;
    else {
      const value = SECRET.has(name) ? '' : ` ${JSON.stringify(raw[name])}`;
      const hint = name === 'redisUrl' ? '; special characters in a password must be percent-encoded' : '';
      errors.push(`--${flag} (${env})${value}: ${parsed.error.issues[0]?.message ?? 'is not allowed'}${hint}`);
    }
  }
  return values;
}
