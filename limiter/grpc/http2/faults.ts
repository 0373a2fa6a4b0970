// What a peer can do wrong, by the codes of RFC 9113, section 7.

export const CODE = {
  noError: 0,
  protocolError: 1,
  internalError: 2,
  flowControlError: 3,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  enhanceYourCalm: 11,
} as const;

export type Code = (typeof CODE)[keyof typeof CODE];

/** Ends the connection: the peer is told why, and everything on it is over. */
export class ConnectionFault extends Error {
  override readonly name = 'ConnectionFault';
  readonly transient = false;
  readonly code: Code;

  constructor(code: Code, message: string) {
    super(message);
    this.code = code;
  }
}
