// The fields of answers, compressed beforehand: they name nothing in the peer's table and put nothing into it.
import { status } from '../status.ts';

/** Numbers of names in the static table of HPACK. */
const STATUS_NAME = 8;
const CONTENT_TYPE_NAME = 31;
const STATUS_200 = Buffer.from([0x88]);
const MAX_MESSAGE_BYTES = 1_024;
const ENCODINGS = 'identity,deflate,gzip';

/** Of an integer of so many bits, the first byte of which has other bits too. */
function integer(value: number, bits: number): number[] {
  const max = (1 << bits) - 1;
  if (value < max) return [value];
  const bytes = [max];
  let rest = value - max;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return [...bytes, rest];
}

const text = (value: string): Buffer =>
  Buffer.from([...integer(Buffer.byteLength(value, 'latin1'), 7), ...Buffer.from(value, 'latin1')]);
const named = (nameIndex: number, value: string): Buffer =>
  Buffer.concat([Buffer.from(integer(nameIndex, 4)), text(value)]);
const field = (name: string, value: string): Buffer => Buffer.concat([Buffer.from([0]), text(name), text(value)]);

/** Our side uses no table: said once, so that a peer that wants a small one need not ask. */
export const NO_TABLE = Buffer.from([0x20]);

export const RESPONSE_FIELDS = Buffer.concat([STATUS_200, named(CONTENT_TYPE_NAME, 'application/grpc')]);

export const OK_FIELDS = field('grpc-status', '0');

/** What ends a call that has gone wrong. */
export const statusFields = (code: number, message: string): Buffer =>
  Buffer.concat([field('grpc-status', String(code)), field('grpc-message', percentEncoded(message))]);

/** What ends a call whose messages are compressed as none here can be: it is told how they may be. */
export const encodingFields = (encoding: string): Buffer =>
  Buffer.concat([
    statusFields(status.UNIMPLEMENTED, `messages cannot be compressed with "${encoding}"`),
    field('grpc-accept-encoding', ENCODINGS),
  ]);

/** An answer to a request that is not one of gRPC. */
export const httpStatusFields = (httpStatus: number): Buffer => named(STATUS_NAME, String(httpStatus));

/** As gRPC wants its messages: printable ASCII, and of everything else each byte of its UTF-8. */
function percentEncoded(message: string): string {
  let encoded = '';
  for (const byte of Buffer.from(message)) {
    const isPlain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    const next = isPlain ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
    if (encoded.length + next.length > MAX_MESSAGE_BYTES) break;
    encoded += next;
  }
  return encoded;
}
