import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Load } from './load.ts';
import type { Answer, Lane } from './own-sender.ts';

/** Every 16th answer is read. */
const SAMPLE_MASK = 15;

/** One connection, one request at a time: no more of HTTP than our servers speak (a content-length, no chunks). */
export class HttpLane implements Lane {
  readonly #socket: Socket;
  readonly #load: Load;
  #answers = 0;
  #received = '';
  #expected: number | undefined;
  #waiting: PromiseWithResolvers<Answer> | undefined;

  private constructor(socket: Socket, load: Load) {
    this.#socket = socket;
    this.#load = load;
    socket.setNoDelay(true).setEncoding('latin1');
    socket.on('data', (chunk: string) => this.#receive(chunk));
    socket.on('error', (error) => this.#waiting?.reject(error));
    socket.on('close', () => this.#waiting?.reject(new Error('the connection was closed')));
  }

  static async open(load: Load): Promise<HttpLane> {
    const socket = connect(load.port, '127.0.0.1');
    await once(socket, 'connect');
    return new HttpLane(socket, load);
  }

  send(request: string): Promise<Answer> {
    this.#waiting = Promise.withResolvers<Answer>();
    this.#socket.write(request, 'latin1');
    return this.#waiting.promise;
  }

  close(): void {
    this.#waiting = undefined;
    this.#socket.destroy();
  }

  #receive(chunk: string): void {
    this.#received += chunk;
    this.#expected ??= this.#lengthOf();
    if (this.#expected === undefined || this.#received.length < this.#expected) return;
    const answer = this.#received;
    this.#received = '';
    this.#expected = undefined;
    this.#answers += 1;
    const isRefused = !answer.startsWith('HTTP/1.1 200 ');
    const isRead = isRefused || (this.#answers & SAMPLE_MASK) === 0;
    this.#waiting?.resolve({ isRefused, problem: isRead ? this.#problemOf(answer, isRefused) : undefined });
  }

  /** Of the whole answer, once its head is there. */
  #lengthOf(): number | undefined {
    const end = this.#received.indexOf('\r\n\r\n');
    if (end === -1) return undefined;
    return end + 4 + Number(/\r\ncontent-length: (\d+)/i.exec(this.#received)?.[1] ?? 0);
  }

  #problemOf(answer: string, isRefused: boolean): string | undefined {
    if (isRefused) return answer;
    const { fragments, count } = this.#load;
    const isRight = fragments.every((fragment) => answer.split(fragment).length - 1 === count);
    return isRight ? undefined : answer;
  }
}
