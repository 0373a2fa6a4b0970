// What a request says before its messages.
import type { Field } from './field.ts';

export type RequestHead = {
  readonly method: string;
  readonly path: string;
  readonly contentType: string;
  /** How messages are compressed that say that they are. */
  readonly encoding: string;
  /** How many bytes of DATA it announces; undefined = it does not say. */
  readonly contentLength: number | undefined;
};

/** Undefined for a request that is malformed (RFC 9113, 8.1.1). */
export function readHead(fields: readonly Field[]): RequestHead | undefined {
  let method: string | undefined;
  let path: string | undefined;
  let scheme: string | undefined;
  let authority: string | undefined;
  let contentType = '';
  let encoding = 'identity';
  let contentLength: string | undefined;
  let isRegular = false;
  for (const { kind, name, value } of fields) {
    if (kind === 'malformed') return undefined;
    const isPseudo = name.startsWith(':');
    // Pseudo-header fields come first.
    if (isPseudo && isRegular) return undefined;
    isRegular = !isPseudo;
    switch (kind) {
      case 'method':
        if (method !== undefined) return undefined;
        method = value;
        break;
      case 'path':
        if (path !== undefined) return undefined;
        path = value;
        break;
      case 'scheme':
        if (scheme !== undefined) return undefined;
        scheme = value;
        break;
      case 'authority':
        if (authority !== undefined) return undefined;
        authority = value;
        break;
      case 'content-type':
        contentType = value;
        break;
      case 'grpc-encoding':
        encoding = value;
        break;
      case 'content-length':
        if (!/^\d{1,15}$/.test(value) || (contentLength ?? value) !== value) return undefined;
        contentLength = value;
        break;
      case 'other':
        break;
      default:
        kind satisfies never;
    }
  }
  if (method === undefined || scheme === undefined || path === undefined || path === '') return undefined;
  return {
    method,
    path,
    contentType,
    encoding,
    contentLength: contentLength === undefined ? undefined : Number(contentLength),
  };
}

/** Fields after the messages: none of them may be one that only a request's beginning has. */
export function areTrailers(fields: readonly Field[]): boolean {
  return fields.every(({ kind, name }) => kind !== 'malformed' && !name.startsWith(':'));
}
