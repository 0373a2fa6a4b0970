// One call: a stream of HTTP/2 that carries messages of gRPC.
import type { Allowance } from './allowance.ts';
import { CODE, type Code } from './faults.ts';
import type { RequestHead } from './head.ts';
import { Intake } from './intake.ts';
import { MESSAGE_HEAD_BYTES, MessagesIn } from './messages-in.ts';
import type { Method, Peer } from './method.ts';
import { OK_FIELDS, statusFields } from './responses.ts';

/** What a call needs of its connection. */
export type CallHost = {
  readonly peer: Peer;
  /** For what is unfinished, of messages and of answers. */
  readonly allowance: Allowance;
  /** There is something to write. */
  hasToWrite(call: Call): void;
  reset(call: Call, code: Code): void;
  /** A call has ended that nobody waited for any more. */
  orphanEnded(): void;
  /** Throws ConnectionFault when the patience with this peer is at its end. */
  spend(frames: number): void;
};

export type Asked = { readonly head: RequestHead; readonly method: Method };

export class Call {
  readonly id: number;
  readonly host: CallHost;
  readonly startedMillis = performance.now();

  /** What is to be written: a message, or all that is left of several with their heads; then how the call ends. */
  message: Uint8Array | undefined = undefined;
  unsent: Buffer | undefined = undefined;
  trailers: Buffer | undefined = undefined;
  /** All fields of an answer that is none of gRPC. */
  refusal: Buffer | undefined = undefined;
  hasSentFields = false;
  isQueued = false;
  /** Since when the peer takes no more of the answer. */
  stalledMillis: number | undefined = undefined;
  /** How many bytes more the peer takes. */
  sendWindow: number;

  /** What it has sent since it was told how much more it may. */
  receivedBytes = 0;
  /** The caller has said all. */
  hasEnded = false;
  /** The stream is closed: nothing is read or written any more. */
  isOver = false;
  /** Whether the method of a unary call is at work. */
  isAnswering = false;

  readonly #asked: Asked;
  #intake: Intake | undefined = undefined;
  #dataBytes = 0;

  constructor(id: number, host: CallHost, asked: Asked, sendWindow: number) {
    this.id = id;
    this.host = host;
    this.#asked = asked;
    this.sendWindow = sendWindow;
  }

  /** Whether all is said that the caller will be told. */
  get isAnswered(): boolean {
    return this.trailers !== undefined || this.refusal !== undefined;
  }

  /** Whether it is a unary call that has not said all. */
  get isAwaited(): boolean {
    return this.#asked.method.isUnary && !this.hasEnded && !this.isAnswered;
  }

  /** Throws ConnectionFault. */
  receive(payload: Buffer, isEnd: boolean): void {
    const { method, head } = this.#asked;
    this.#dataBytes += payload.length;
    this.hasEnded = isEnd;
    if (head.contentLength !== undefined && isWrongLength(this.#dataBytes, head.contentLength, isEnd)) {
      this.host.reset(this, CODE.protocolError);
      return;
    }
    if (this.isAnswered) return;
    this.isAnswering = isEnd && method.isUnary;
    // The hot path: one frame that is the one message. It is neither copied nor kept.
    if (this.isAnswering && this.#intake === undefined && isWholeMessage(payload)) {
      method.receive(this, payload.subarray(MESSAGE_HEAD_BYTES));
      return;
    }
    this.#intake ??= new Intake(this, method, head.encoding, new MessagesIn(this.host.allowance));
    this.#intake.receive(payload, isEnd);
  }

  /** The answer of a unary call. */
  answer(message: Uint8Array): void {
    this.write(message);
    this.succeed();
  }

  write(message: Uint8Array): void {
    if (this.isOver || this.isAnswered) return;
    if (this.message === undefined && this.unsent === undefined) this.message = message;
    else this.#keepUnsent(message);
    this.host.hasToWrite(this);
  }

  /** Ends it with OK. */
  succeed(): void {
    this.finish(OK_FIELDS);
  }

  /** Ends it with another code than OK. */
  end(code: number, text: string): void {
    this.finish(statusFields(code, text));
  }

  /** Ends it without gRPC. */
  refuse(fields: Buffer): void {
    this.refusal = fields;
    this.host.hasToWrite(this);
  }

  /** The message does not fit now: it becomes part of what is unsent. */
  keepMessage(): void {
    const { message } = this;
    this.message = undefined;
    if (message !== undefined) this.#keepUnsent(message);
  }

  /** So many bytes of what was unsent are written. */
  wrote(bytes: number): void {
    const rest = this.unsent?.subarray(bytes);
    this.unsent = rest === undefined || rest.length === 0 ? undefined : rest;
    this.host.allowance.giveBack(bytes);
  }

  /** The stream is closed. Who still works for a stream of messages is told. */
  close(): void {
    this.isOver = true;
    this.#intake?.release();
    if (this.unsent !== undefined) this.wrote(this.unsent.length);
    this.message = undefined;
    if (!this.#asked.method.isUnary) this.#asked.method.cancel?.(this);
  }

  /** Ends it with these fields. */
  finish(fields: Buffer): void {
    const wasAnswering = this.isAnswering;
    this.isAnswering = false;
    if (this.isOver) {
      if (wasAnswering) this.host.orphanEnded();
      return;
    }
    if (this.isAnswered) return;
    this.trailers = fields;
    this.host.hasToWrite(this);
  }

  #keepUnsent(message: Uint8Array): void {
    const before = this.unsent;
    const framed = Buffer.allocUnsafe(MESSAGE_HEAD_BYTES + message.length);
    framed[0] = 0;
    framed.writeUInt32BE(message.length, 1);
    framed.set(message, MESSAGE_HEAD_BYTES);
    // A peer that asks and does not read: it loses the call.
    if (!this.host.allowance.take(framed.length)) this.host.reset(this, CODE.enhanceYourCalm);
    else this.unsent = before === undefined ? framed : Buffer.concat([before, framed]);
  }
}

/** Whether it is a message and nothing else, not compressed. */
function isWholeMessage(payload: Buffer): boolean {
  const length = payload.length - MESSAGE_HEAD_BYTES;
  return length >= 0 && payload[0] === 0 && payload.readUInt32BE(1) === length;
}

function isWrongLength(bytes: number, announced: number, isEnd: boolean): boolean {
  return isEnd ? bytes !== announced : bytes > announced;
}
