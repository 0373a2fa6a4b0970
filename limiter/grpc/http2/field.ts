// A field of a block of HTTP/2 fields, with what is known of it as such: found out once, when it enters the table.

/** What a field is to us. Names are compared once, here. */
export type FieldKind =
  | 'malformed'
  | 'method'
  | 'path'
  | 'scheme'
  | 'authority'
  | 'content-type'
  | 'content-length'
  | 'grpc-encoding'
  | 'other';

export type Field = {
  readonly name: string;
  readonly value: string;
  /** As HPACK counts it: of the tables and of lists. */
  readonly bytes: number;
  readonly kind: FieldKind;
};

const OVERHEAD_BYTES = 32;

/** RFC 9110's token, in lower case as HTTP/2 wants it. */
const NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
// oxlint-disable-next-line no-control-regex -- these are what must not be there
const FORBIDDEN_IN_VALUES = /[\0\r\n]/;

const KINDS: ReadonlyMap<string, FieldKind> = new Map<string, FieldKind>([
  [':method', 'method'],
  [':path', 'path'],
  [':scheme', 'scheme'],
  [':authority', 'authority'],
  ['content-type', 'content-type'],
  ['content-length', 'content-length'],
  ['grpc-encoding', 'grpc-encoding'],
  // Of a connection of HTTP/1.1; they must not be there (RFC 9113, 8.2.2).
  ['connection', 'malformed'],
  ['keep-alive', 'malformed'],
  ['proxy-connection', 'malformed'],
  ['transfer-encoding', 'malformed'],
  ['upgrade', 'malformed'],
]);

export function fieldOf(name: string, value: string): Field {
  return { name, value, bytes: name.length + value.length + OVERHEAD_BYTES, kind: kindOf(name, value) };
}

function kindOf(name: string, value: string): FieldKind {
  if (FORBIDDEN_IN_VALUES.test(value)) return 'malformed';
  const known = KINDS.get(name);
  if (known !== undefined) return known;
  if (name === 'te' && value !== 'trailers') return 'malformed';
  return NAME.test(name) ? 'other' : 'malformed';
}
