// One connection of a caller: reads its frames, writes the answers, and ends in good order.
import type { Socket } from 'node:net';
import { Allowance } from './allowance.ts';
import { Calls, MAX_CALLS, MAX_FIELDS_BYTES } from './calls.ts';
import { CODE, type Code, ConnectionFault } from './faults.ts';
import { FrameReader } from './frame-reader.ts';
import {
  DEFAULT_WINDOW_BYTES,
  goawayFrame,
  MAX_STREAM_ID,
  pingFrame,
  SETTING,
  settingsFrame,
  windowUpdateFrame,
} from './frames.ts';
import { Inbound, WINDOW_BYTES } from './inbound.ts';
import type { Methods, Peer } from './method.ts';
import { Outbound } from './outbound.ts';
import { Patience } from './patience.ts';
import type { Scratch } from './scratch.ts';

/** Everything that a peer must do is done within so long, or it is let go. */
const BEGIN_MILLIS = 5_000;
const FRAME_MILLIS = 5_000;
const READ_MILLIS = 10_000;
/** One that says nothing is asked whether it is there. */
const SILENT_MILLIS = 30_000;
const PONG_MILLIS = 10_000;
/** What a peer may need to hear that there will be no more streams, or that it has been at fault. */
const HEAR_MILLIS = 2_000;
/** What may wait in a socket before nothing more is read from it. */
const MAX_WAITING_BYTES = 65_536;
/** Of unfinished messages and answers of one connection. */
const MAX_HELD_BYTES = 8_388_608;

const GREETING = Buffer.concat([
  settingsFrame([
    [SETTING.maxConcurrentStreams, MAX_CALLS],
    [SETTING.initialWindowSize, WINDOW_BYTES],
    [SETTING.maxHeaderListSize, MAX_FIELDS_BYTES],
  ]),
  windowUpdateFrame(0, WINDOW_BYTES - DEFAULT_WINDOW_BYTES),
]);
const [KEEPALIVE, LAST_CALL] = [Buffer.from('keepaliv'), Buffer.from('lastcall')];

export type ConnectionParts = {
  readonly methods: Methods;
  readonly peer: Peer;
  /** Whether it is one of TLS. */
  readonly isEncrypted: boolean;
  /** Of all connections together. */
  readonly allowance: Allowance;
  /** When it is to be closed gently, by performance.now(). */
  readonly retireMillis: number;
  readonly graceMillis: number;
  /** Told that flush() has something to do. */
  readonly wantsFlush: (connection: Connection) => void;
  readonly onClose: (connection: Connection) => void;
  /** Told of what is wrong with us. */
  readonly onError: (error: unknown) => void;
};

/**
 * open -> announced (GOAWAY, streams may still begin) -> closing (no more may) -> over (nothing is said any more);
 * failed: nothing is heard any more, and one last thing said.
 */
type Phase = 'open' | 'announced' | 'closing' | 'failed' | 'over';

export class Connection {
  readonly #socket: Socket;
  readonly #parts: ConnectionParts;
  readonly #outbound: Outbound;
  readonly #calls: Calls;
  readonly #inbound: Inbound;
  readonly #reader: FrameReader;
  readonly #patience = new Patience();
  #phase: Phase = 'open';
  #isDirty = false;
  readonly #beganMillis = performance.now();
  #phaseMillis = 0;
  #heardMillis = performance.now();
  #pingMillis: number | undefined;
  #amidMillis: number | undefined;
  #fullMillis: number | undefined;
  #cutOffMillis = Number.POSITIVE_INFINITY;

  constructor(socket: Socket, parts: ConnectionParts) {
    this.#socket = socket;
    this.#parts = parts;
    const { methods, peer } = parts;
    this.#outbound = new Outbound(
      (call) => this.#calls.onWritten(call),
      () => this.#wantsFlush(),
    );
    const allowance = new Allowance(MAX_HELD_BYTES, parts.allowance);
    const onOver = (): void => this.#wantsFlush();
    this.#calls = new Calls({ methods, peer, allowance, patience: this.#patience, onOver }, this.#outbound);
    this.#inbound = new Inbound(this.#calls, (data) => this.#onPong(data));
    this.#reader = new FrameReader(this.#inbound);
    socket.on('data', (chunk) => this.#onData(chunk));
    socket.on('drain', () => this.#onDrain());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#onClose());
    this.#outbound.control(GREETING);
  }

  /** Writes at once what has come together since the last time. */
  flush(scratch: Scratch): void {
    this.#outbound.flush(scratch);
    this.#isDirty = false;
    if (scratch.length > 0 && this.#socket.writable) {
      // Whose last bytes still wait, or are encrypted after this turn, gets a copy: it would keep all of the scratch.
      const isKept = this.#parts.isEncrypted || this.#socket.writableLength > 0;
      this.#socket.write(isKept ? Buffer.from(scratch.written()) : scratch.written());
      scratch.reset(!isKept && this.#socket.writableLength > 0);
      if (this.#socket.writableLength > MAX_WAITING_BYTES && this.#fullMillis === undefined) {
        // Who does not read its answers asks no more.
        this.#fullMillis = performance.now();
        this.#socket.pause();
      }
    }
    scratch.length = 0;
    if (this.#phase === 'failed' || (this.#phase === 'closing' && this.#calls.size === 0)) this.#end();
  }

  /** Lets streams end that have begun; after so long cuts them off. */
  drain(graceMillis: number): void {
    this.#cutOffMillis = Math.min(this.#cutOffMillis, performance.now() + graceMillis);
    if (this.#phase !== 'open') return;
    if (!this.#inbound.hasSettings) {
      this.#end();
      return;
    }
    this.#enter('announced');
    // The peer may have begun streams before it hears of it: its answer to the PING says that it has heard.
    this.#outbound.control(goawayFrame(MAX_STREAM_ID, CODE.noError));
    this.#outbound.control(pingFrame(LAST_CALL, false));
  }

  /** Called about once in a second: all that a peer is given time for. */
  sweep(nowMillis: number): void {
    this.#patience.secondPassed();
    if (this.#isLate(nowMillis)) {
      this.#socket.destroy();
      return;
    }
    this.#calls.sweep(nowMillis);
    if (nowMillis > this.#parts.retireMillis) this.drain(this.#parts.graceMillis);
    if (this.#phase === 'announced' && nowMillis - this.#phaseMillis > HEAR_MILLIS) this.#sayLast();
    if (nowMillis - this.#heardMillis > SILENT_MILLIS && this.#pingMillis === undefined) {
      this.#pingMillis = nowMillis;
      this.#outbound.control(pingFrame(KEEPALIVE, false));
    }
  }

  #isLate(nowMillis: number): boolean {
    const isOver = (since: number | undefined, millis: number): boolean =>
      since !== undefined && nowMillis - since > millis;
    return (
      nowMillis > this.#cutOffMillis ||
      (!this.#inbound.hasSettings && isOver(this.#beganMillis, BEGIN_MILLIS)) ||
      // Unless it is us who does not read.
      (this.#fullMillis === undefined && isOver(this.#amidMillis, FRAME_MILLIS)) ||
      isOver(this.#fullMillis, READ_MILLIS) ||
      isOver(this.#pingMillis, PONG_MILLIS) ||
      // Its last answers may still be on their way to it.
      (this.#phase === 'over' && isOver(this.#phaseMillis, this.#socket.writableLength > 0 ? READ_MILLIS : HEAR_MILLIS))
    );
  }

  #onData(chunk: Buffer): void {
    if (this.#phase === 'failed' || this.#phase === 'over') return;
    this.#heardMillis = performance.now();
    this.#pingMillis = undefined;
    const wasAmid = this.#amidMillis;
    this.#amidMillis = undefined;
    try {
      this.#reader.read(chunk);
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (this.#reader.isAmidFrame || this.#inbound.isAmidBlock) this.#amidMillis = wasAmid ?? this.#heardMillis;
  }

  #fail(error: unknown): void {
    const isTheirs = error instanceof ConnectionFault;
    if (!isTheirs) this.#parts.onError(error);
    const code: Code = isTheirs ? error.code : CODE.internalError;
    this.#outbound.control(goawayFrame(this.#calls.lastId, code, isTheirs ? error.message : ''));
    this.#enter('failed');
    this.#calls.closeAll();
  }

  #onPong(data: Buffer): void {
    if (this.#phase === 'announced' && data.equals(LAST_CALL)) this.#sayLast();
  }

  #sayLast(): void {
    this.#calls.maxId = this.#calls.lastId;
    this.#outbound.control(goawayFrame(this.#calls.lastId, CODE.noError));
    this.#enter('closing');
  }

  #end(): void {
    this.#enter('over');
    this.#socket.end();
    // What still comes is dropped, so that the peer can read to the end what we have said.
    this.#socket.resume();
  }

  #onDrain(): void {
    this.#fullMillis = undefined;
    if (this.#amidMillis !== undefined) this.#amidMillis = performance.now();
    this.#socket.resume();
  }

  #onClose(): void {
    this.#enter('over');
    this.#calls.closeAll();
    this.#parts.onClose(this);
  }

  #enter(phase: Phase): void {
    this.#phase = phase;
    this.#phaseMillis = performance.now();
  }

  #wantsFlush(): void {
    if (this.#isDirty || this.#phase === 'over') return;
    this.#isDirty = true;
    this.#parts.wantsFlush(this);
  }
}
