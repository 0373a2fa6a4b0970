// The way of a call's messages that are not simply one whole frame: put together, decompressed, counted.
import { promisify } from 'node:util';
import { gunzip, gunzipSync, inflate, inflateSync } from 'node:zlib';
import { status } from '../status.ts';
import type { Call } from './call.ts';
import { MAX_MESSAGE_BYTES, type Message, type MessagesIn } from './messages-in.ts';
import type { Method } from './method.ts';
import { encodingFields } from './responses.ts';

type Decompressor = {
  readonly later: (bytes: Buffer, limits: { maxOutputLength: number }) => Promise<Buffer>;
  readonly now: (bytes: Buffer, limits: { maxOutputLength: number }) => Buffer;
};

const DECOMPRESSORS: ReadonlyMap<string, Decompressor> = new Map<string, Decompressor>([
  ['gzip', { later: promisify(gunzip), now: gunzipSync }],
  ['deflate', { later: promisify(inflate), now: inflateSync }],
]);
const LIMITS = { maxOutputLength: MAX_MESSAGE_BYTES };
/** What a compressed message of a stream takes of the connection's patience: it is decompressed on the spot, in order. */
const COMPRESSED_COST = 20;

export class Intake {
  readonly #call: Call;
  readonly #method: Method;
  readonly #encoding: string;
  readonly #messages: MessagesIn;

  constructor(call: Call, method: Method, encoding: string, messages: MessagesIn) {
    this.#call = call;
    this.#method = method;
    this.#encoding = encoding;
    this.#messages = messages;
  }

  /** May end the call. Throws ConnectionFault. */
  receive(payload: Buffer, isEnd: boolean): void {
    if (!this.#messages.add(payload)) {
      this.#call.end(status.RESOURCE_EXHAUSTED, 'too many bytes of unfinished messages');
    } else if (this.#method.isUnary) {
      this.#receiveOnly(isEnd);
    } else {
      this.#receiveNext(isEnd);
    }
  }

  release(): void {
    this.#messages.release();
  }

  #receiveOnly(isEnd: boolean): void {
    if (this.#messages.isNextTooLarge) this.#tooLarge();
    if (!isEnd || this.#call.isAnswered) return;
    const message = this.#messages.next();
    const { hasRest } = this.#messages;
    this.#messages.release();
    if (message === undefined) this.#call.end(status.INTERNAL, 'there is no whole message');
    else if (hasRest) this.#call.end(status.INTERNAL, 'there is more than one message');
    else if (message.isCompressed) void this.#receiveCompressed(message.bytes);
    else this.#method.receive(this.#call, message.bytes);
  }

  #receiveNext(isEnd: boolean): void {
    for (;;) {
      if (this.#messages.isNextTooLarge) this.#tooLarge();
      const message = this.#call.isAnswered ? undefined : this.#messages.next();
      if (message === undefined) break;
      const bytes = this.#decompressed(message);
      if (bytes !== undefined) this.#method.receive(this.#call, bytes);
    }
    if (!isEnd || this.#call.isAnswered) return;
    if (this.#messages.hasRest) this.#call.end(status.INTERNAL, 'there is no whole message');
    else this.#method.finish?.(this.#call);
  }

  /** Of a unary call: off the event loop. Never rejects. */
  async #receiveCompressed(bytes: Buffer): Promise<void> {
    const decompressor = this.#decompressor();
    if (decompressor === undefined) return;
    let message: Buffer;
    try {
      message = await decompressor.later(bytes, LIMITS);
    } catch (error) {
      this.#notDecompressed(error);
      return;
    }
    this.#method.receive(this.#call, message);
  }

  /** Undefined if the call has ended by it. */
  #decompressed({ isCompressed, bytes }: Message): Buffer | undefined {
    if (!isCompressed) return bytes;
    this.#call.host.spend(COMPRESSED_COST);
    try {
      return this.#decompressor()?.now(bytes, LIMITS);
    } catch (error) {
      this.#notDecompressed(error);
      return undefined;
    }
  }

  #decompressor(): Decompressor | undefined {
    const decompressor = DECOMPRESSORS.get(this.#encoding);
    if (decompressor !== undefined) return decompressor;
    if (this.#encoding === 'identity') {
      this.#call.end(status.INTERNAL, 'a message is compressed, and the call does not say how');
    } else {
      this.#call.finish(encodingFields(this.#encoding));
    }
    return undefined;
  }

  #notDecompressed(error: unknown): void {
    if (error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE') this.#tooLarge();
    else this.#call.end(status.INTERNAL, 'a message cannot be decompressed');
  }

  #tooLarge(): void {
    this.#call.end(status.RESOURCE_EXHAUSTED, `a message is larger than ${MAX_MESSAGE_BYTES} bytes`);
  }
}
