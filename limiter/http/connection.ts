// A connection of callers. Node's HTTP server takes three times as long for a request as all that we do with it, so what
// nearly every caller sends is read and answered here: one whole request after the other, in the plainest form. At
// the first bytes that are anything else the connection is Node's, for good, with all that was not answered yet: there is
// one place that knows all of HTTP, and it is not here.
import type { Socket } from 'node:net';
import type { HttpAnswer } from './answer.ts';
import { answerText, KEEP_ALIVE_SECONDS } from './answer-text.ts';
import { WholeRequest } from './http-request.ts';
import { readHead } from './whole-request.ts';

/** Where an answer goes. */
export type Reply = {
  /** Throws if the answer has headers that cannot be written; nothing is written then. */
  write(answer: HttpAnswer): void;
};

/** What stands behind a connection. */
export type Behind = {
  /** Answers later, once. */
  answer(request: WholeRequest, reply: Reply): void;
  /** Takes the connection, on which nothing of `unread` was answered. */
  handOver(connection: Connection, socket: Socket, unread: Buffer): void;
  onClose(connection: Connection): void;
  readonly isDraining: () => boolean;
};

/** A connection that has sent nothing yet is kept so long, in milliseconds, */
const FIRST_REQUEST_MILLIS = 5_000;
/** and one that has, so long after its last request: a second more than its caller is told. */
const KEEP_ALIVE_MILLIS = (KEEP_ALIVE_SECONDS + 1) * 1_000;
/** Larger requests are Node's, which does not wait for all of one that nobody wants. */
const MAX_WHOLE_BYTES = 262_144;
/** The rest of a body is awaited so long; then it is Node's to wait for. */
const BODY_MILLIS = 1_000;

type Waiting = { readonly chunks: Buffer[]; length: number; readonly needed: number; readonly timer: NodeJS.Timeout };

export class Connection implements Reply {
  readonly #socket: Socket;
  readonly #behind: Behind;
  /** A request whose body is not all there. */
  #waiting: Waiting | undefined;
  #isAnswering = false;
  /** What came while a request was being answered. */
  #early: Buffer[] = [];
  #hasAsked = false;
  #hasEnded = false;

  constructor(socket: Socket, behind: Behind) {
    this.#socket = socket;
    this.#behind = behind;
    socket.setNoDelay(true);
    socket.setTimeout(FIRST_REQUEST_MILLIS);
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('timeout', this.#onTimeout);
    socket.on('error', ignore);
    socket.on('close', this.#onClose);
  }

  /** Between two requests. Whoever has just come is about to send its first one, and would lose it. */
  get isIdle(): boolean {
    return this.#hasAsked && this.#isQuiet;
  }

  /** Whether nothing is under way. */
  get #isQuiet(): boolean {
    return !this.#isAnswering && this.#waiting === undefined;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  write(answer: HttpAnswer): void {
    const { text, encoding } = answerText(answer);
    this.#isAnswering = false;
    const socket = this.#socket;
    if (!socket.writable) return;
    const isTaken = socket.write(text, encoding);
    if (this.#hasEnded) socket.end();
    else if (this.#early.length > 0) this.#handOver(Buffer.concat(this.#early));
    else if (!isTaken) this.#pauseUntilTaken();
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#isAnswering) {
      this.#early.push(chunk);
      this.#socket.pause();
      return;
    }
    const waiting = this.#waiting;
    if (waiting === undefined) {
      this.#take(chunk);
      return;
    }
    waiting.chunks.push(chunk);
    waiting.length += chunk.length;
    if (waiting.length >= waiting.needed) this.#take(this.#stopWaiting(waiting));
  };

  #take(bytes: Buffer): void {
    const head = this.#behind.isDraining() ? undefined : readHead(bytes);
    if (head === undefined || bytes.length > head.end || head.end > MAX_WHOLE_BYTES) {
      this.#handOver(bytes);
    } else if (bytes.length < head.end) {
      this.#wait(bytes, head.end);
    } else {
      if (!this.#hasAsked) this.#socket.setTimeout(KEEP_ALIVE_MILLIS);
      this.#hasAsked = true;
      this.#isAnswering = true;
      this.#behind.answer(new WholeRequest(head, this.#socket, bytes.subarray(head.bodyStart)), this);
    }
  }

  #wait(bytes: Buffer, needed: number): void {
    const timer = setTimeout(() => {
      if (this.#waiting !== undefined) this.#handOver(this.#stopWaiting(this.#waiting));
    }, BODY_MILLIS);
    this.#waiting = { chunks: [bytes], length: bytes.length, needed, timer };
  }

  #stopWaiting({ chunks, timer }: Waiting): Buffer {
    clearTimeout(timer);
    this.#waiting = undefined;
    return Buffer.concat(chunks);
  }

  /** A caller that does not read its answers is not read from. */
  #pauseUntilTaken(): void {
    this.#socket.pause();
    this.#socket.once('drain', () => this.#socket.resume());
  }

  #handOver(unread: Buffer): void {
    const socket = this.#socket;
    socket.off('data', this.#onData);
    socket.off('end', this.#onEnd);
    socket.off('timeout', this.#onTimeout);
    socket.off('close', this.#onClose);
    socket.setTimeout(0);
    this.#behind.handOver(this, socket, unread);
    socket.off('error', ignore);
  }

  readonly #onEnd = (): void => {
    this.#hasEnded = true;
    // The rest will never come, and Node cannot be given what has ended.
    if (this.#waiting !== undefined) this.#stopWaiting(this.#waiting);
    if (!this.#isAnswering) this.#socket.end();
  };

  readonly #onTimeout = (): void => {
    if (this.#isQuiet) this.destroy();
  };

  readonly #onClose = (): void => {
    if (this.#waiting !== undefined) clearTimeout(this.#waiting.timer);
    this.#behind.onClose(this);
  };
}

/** A caller that went away: what follows is 'close'. */
function ignore(): void {}
