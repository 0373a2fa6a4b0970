// What the layer of HTTP/2 asks of those who answer calls.
import type { Call } from './call.ts';

/** Who is at the other end of a connection. */
export type Peer = {
  readonly peerIP: string | undefined;
  /** Whether its words about others are believed. */
  readonly isTrusted: boolean;
};

export type Method = {
  /** Whether a call has one message and one answer. */
  readonly isUnary: boolean;
  /** A message of the call: of a unary one when the caller has said all. Whoever keeps its bytes for long copies them. */
  receive(call: Call, message: Buffer): void;
  /** The caller of a stream will send no more messages. */
  finish?(call: Call): void;
  /** Nobody waits for the answers of a stream any more. */
  cancel?(call: Call): void;
};

/** By path: `/package.Service/Method`. */
export type Methods = ReadonlyMap<string, Method>;
