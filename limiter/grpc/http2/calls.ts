// The calls of one connection: which are open, which may begin, and how they end.
import { status } from '../status.ts';
import type { Allowance } from './allowance.ts';
import { Call, type CallHost } from './call.ts';
import { CODE, type Code, ConnectionFault } from './faults.ts';
import type { Field } from './field.ts';
import { MAX_STREAM_ID, MAX_WINDOW_BYTES, resetFrame } from './frames.ts';
import { areTrailers, readHead, type RequestHead } from './head.ts';
import type { Method, Methods, Peer } from './method.ts';
import type { Outbound } from './outbound.ts';
import type { Patience } from './patience.ts';
import { httpStatusFields } from './responses.ts';

/** As it is announced. A call that was reset counts until its work is done: to reset calls does not allow for more of them. */
export const MAX_CALLS = 1_000;
/** Of all fields of a request, as it is announced. */
export const MAX_FIELDS_BYTES = 16_384;

/** How many of the streams that we have reset are remembered: what the peer sent before it heard of it is ignored. */
const MAX_REMEMBERED = 256;
const REQUEST_MILLIS = 10_000;
const STALLED_MILLIS = 30_000;
const METHOD_NOT_ALLOWED = httpStatusFields(405);
const UNSUPPORTED_MEDIA_TYPE = httpStatusFields(415);
const NOTHING = Buffer.alloc(0);

const ANY_HEAD: RequestHead = { method: '', path: '', contentType: '', encoding: 'identity', contentLength: undefined };
/** Of calls that are answered before they are read. */
const NO_METHOD: Method = { isUnary: true, receive: () => undefined };

export type CallsParts = {
  readonly methods: Methods;
  readonly peer: Peer;
  readonly allowance: Allowance;
  readonly patience: Patience;
  /** Told whenever a call is over. */
  readonly onOver: () => void;
};

export class Calls implements CallHost {
  readonly peer: Peer;
  readonly allowance: Allowance;
  /** Put by the connection, which needs both. */
  readonly outbound: Outbound;
  /** The last stream that began. */
  lastId = 0;
  /** No stream beyond this one is begun any more. */
  maxId = MAX_STREAM_ID;
  readonly #parts: CallsParts;
  readonly #open = new Map<number, Call>();
  readonly #remembered = new Set<number>();
  #orphans = 0;

  constructor(parts: CallsParts, outbound: Outbound) {
    this.#parts = parts;
    this.peer = parts.peer;
    this.allowance = parts.allowance;
    this.outbound = outbound;
  }

  get size(): number {
    return this.#open.size;
  }

  get(id: number): Call | undefined {
    return this.#open.get(id);
  }

  /** Whether it was reset by us a short while ago. */
  isRemembered(id: number): boolean {
    return this.#remembered.has(id);
  }

  /** A stream begins, or ends with trailers. `fields` is undefined where there are too many. */
  onFields(id: number, fields: readonly Field[] | undefined, isEnd: boolean): void {
    const call = this.#open.get(id);
    if (call !== undefined) this.#onTrailers(call, fields, isEnd);
    else if (id > this.lastId) this.#begin(id, fields, isEnd);
    else if (!this.isRemembered(id))
      throw new ConnectionFault(CODE.protocolError, `stream ${id} cannot begin any more`);
  }

  #onTrailers(call: Call, fields: readonly Field[] | undefined, isEnd: boolean): void {
    if (call.hasEnded) this.reset(call, CODE.streamClosed);
    else if (!isEnd || fields === undefined || !areTrailers(fields)) this.reset(call, CODE.protocolError);
    else this.receive(call, NOTHING, true);
  }

  #begin(id: number, fields: readonly Field[] | undefined, isEnd: boolean): void {
    if (id % 2 === 0) throw new ConnectionFault(CODE.protocolError, 'streams of clients have odd numbers');
    if (id > this.maxId) return;
    this.lastId = id;
    if (this.#open.size + this.#orphans >= MAX_CALLS) {
      this.#refuse(id, CODE.refusedStream);
      return;
    }
    const head = fields === undefined ? ANY_HEAD : readHead(fields);
    if (head === undefined) {
      this.#refuse(id, CODE.protocolError);
      return;
    }
    const method = this.#parts.methods.get(head.path);
    const call = new Call(id, this, { head, method: method ?? NO_METHOD }, this.outbound.initialWindow);
    this.#open.set(id, call);
    if (fields === undefined) call.end(status.RESOURCE_EXHAUSTED, `the fields are more than ${MAX_FIELDS_BYTES} bytes`);
    else if (head.method !== 'POST') call.refuse(METHOD_NOT_ALLOWED);
    else if (!head.contentType.startsWith('application/grpc')) call.refuse(UNSUPPORTED_MEDIA_TYPE);
    else if (method === undefined) call.end(status.UNIMPLEMENTED, `there is no method ${head.path}`);
    if (isEnd) this.receive(call, NOTHING, true);
  }

  /** Throws ConnectionFault. */
  receive(call: Call, payload: Buffer, isEnd: boolean): void {
    call.receive(payload, isEnd);
  }

  hasToWrite(call: Call): void {
    this.outbound.add(call);
  }

  /** An answer is written to its end. One that came before the request's end closes the stream: nobody reads the rest. */
  onWritten(call: Call): void {
    this.#parts.patience.callAnswered();
    if (!call.hasEnded) {
      this.#remember(call.id);
      this.outbound.control(resetFrame(call.id, CODE.noError));
    }
    this.#over(call);
  }

  reset(call: Call, code: Code): void {
    if (call.isOver) return;
    this.#remember(call.id);
    this.outbound.control(resetFrame(call.id, code));
    this.#over(call);
  }

  /** The caller waits no longer. */
  onReset(call: Call): void {
    // One that is at work keeps its place until it ends, which is enough to bear.
    if (!call.isAnswering) this.spend(1);
    this.#over(call);
  }

  orphanEnded(): void {
    this.#orphans -= 1;
  }

  spend(frames: number): void {
    this.#parts.patience.spend(frames);
  }

  /** Throws ConnectionFault. */
  widenAll(bytes: number): void {
    for (const call of this.#open.values()) {
      if (call.sendWindow + bytes > MAX_WINDOW_BYTES) {
        throw new ConnectionFault(CODE.flowControlError, 'a window that is too large');
      }
      this.widen(call, bytes);
    }
  }

  /** By a negative number of bytes too. */
  widen(call: Call, bytes: number): void {
    call.sendWindow += bytes;
    if (call.unsent !== undefined && call.sendWindow > 0) this.outbound.add(call);
  }

  /** Lets go of calls whose request does not come to its end, or whose answer is not taken. */
  sweep(nowMillis: number): void {
    for (const call of this.#open.values()) {
      if (call.isAwaited && nowMillis - call.startedMillis > REQUEST_MILLIS) {
        call.end(status.DEADLINE_EXCEEDED, `the request was not complete after ${REQUEST_MILLIS} ms`);
      }
      if (call.stalledMillis !== undefined && nowMillis - call.stalledMillis > STALLED_MILLIS) {
        this.reset(call, CODE.cancel);
      }
    }
  }

  /** The connection is closed. */
  closeAll(): void {
    for (const call of this.#open.values()) this.#over(call);
  }

  #refuse(id: number, code: Code): void {
    this.spend(1);
    this.#remember(id);
    this.outbound.control(resetFrame(id, code));
  }

  #over(call: Call): void {
    this.#open.delete(call.id);
    if (call.isAnswering) this.#orphans += 1;
    call.close();
    this.#parts.onOver();
  }

  #remember(id: number): void {
    this.#remembered.add(id);
    if (this.#remembered.size <= MAX_REMEMBERED) return;
    for (const oldest of this.#remembered) {
      this.#remembered.delete(oldest);
      break;
    }
  }
}
