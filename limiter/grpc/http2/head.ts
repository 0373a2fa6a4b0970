// What a request says before its messages.
import type { Field, FieldKind } from './field.ts';

export type RequestHead = {
  readonly method: string;
  readonly path: string;
  readonly contentType: string;
  /** How messages are compressed that say that they are. */
  readonly encoding: string;
  /** How many bytes of DATA it announces; undefined = it does not say. */
  readonly contentLength: number | undefined;
};

type Values = { [kind in Exclude<FieldKind, 'malformed' | 'other'>]: string | undefined };

/** Undefined for a request that is malformed (RFC 9113, 8.1.1). */
export function readHead(fields: readonly Field[]): RequestHead | undefined {
  const values: Values = {
    method: undefined,
    path: undefined,
    scheme: undefined,
    authority: undefined,
    'content-type': undefined,
    'content-length': undefined,
    'grpc-encoding': undefined,
  };
  let isRegular = false;
  for (const { kind, name, value } of fields) {
    if (kind === 'malformed') return undefined;
    // Pseudo-header fields come first.
    const isPseudo = name.startsWith(':');
    if (isPseudo && isRegular) return undefined;
    isRegular = !isPseudo;
    if (kind === 'other') continue;
    // None of those that mean something may come twice.
    if (values[kind] !== undefined) return undefined;
    values[kind] = value;
  }
  const { method, path, scheme, 'content-length': length } = values;
  if (method === undefined || scheme === undefined || path === undefined || path === '') return undefined;
  if (length !== undefined && !/^\d{1,15}$/.test(length)) return undefined;
  return {
    method,
    path,
    contentType: values['content-type'] ?? '',
    encoding: values['grpc-encoding'] ?? 'identity',
    contentLength: length === undefined ? undefined : Number(length),
  };
}

/** Fields after the messages: none of them may be one that only a request's beginning has. */
export function areTrailers(fields: readonly Field[]): boolean {
  return fields.every(({ kind, name }) => kind !== 'malformed' && !name.startsWith(':'));
}
