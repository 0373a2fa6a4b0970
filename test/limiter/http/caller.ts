// A caller byte by byte, and doors whose decisions can be held up.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'vitest';
import type { Engine } from '../../../limiter/asked.ts';
import { startDoors, type TestDoors } from '../../harness/doors.ts';
import { eventually } from '../../harness/eventually.ts';

export type HeldDoors = TestDoors & {
  /** Decisions wait until what it returns is called. */
  hold(): () => void;
  /** How many decisions were asked for. */
  asked(): number;
};

export async function startHeldDoors(): Promise<HeldDoors> {
  let held: Promise<void> | undefined;
  let asked = 0;
  const holding = (engine: Engine): Engine => ({
    async check(snapshot, request) {
      asked += 1;
      await held;
      return engine.check(snapshot, request);
    },
  });
  const hold = (): (() => void) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    held = promise;
    return () => {
      held = undefined;
      resolve();
    };
  };
  return { ...(await startDoors(holding)), hold, asked: () => asked };
}

export const CHECK = '{"domain":"payments","mode":"peek"}';

export function post(path: string, body: string, extra = ''): string {
  const length = Buffer.byteLength(body);
  return `POST ${path} HTTP/1.1\r\nHost: a\r\nX-Request-ID: r\r\n${extra}Content-Length: ${length}\r\n\r\n${body}`;
}
export const check = (id = 'r'): string =>
  post('/v1/decision/check', CHECK).replace('X-Request-ID: r', `X-Request-ID: ${id}`);

/** A connection to the doors, and what was said on it. */
export class Client {
  readonly socket: Socket;
  readonly #chunks: Buffer[] = [];

  constructor(port: number) {
    this.socket = connect(port, '127.0.0.1');
    this.socket.setNoDelay(true);
    this.socket.on('error', () => undefined);
    this.socket.on('data', (chunk: Buffer) => this.#chunks.push(chunk));
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString('utf8');
  }

  /** Whole answers, each as text, without what differs between two of them. */
  get answers(): string[] {
    const bytes = Buffer.concat(this.#chunks);
    const answers: string[] = [];
    let at = 0;
    while (at < bytes.length) {
      const end = bytes.indexOf('\r\n\r\n', at);
      if (end === -1) break;
      const head = bytes.toString('latin1', at, end);
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
      if (bytes.length < end + 4 + length) break;
      answers.push(bytes.toString('utf8', at, end + 4 + length).replace(/\r\nDate: [^\r]+ GMT\r\n/, '\r\nDate: …\r\n'));
      at = end + 4 + length;
    }
    return answers;
  }

  async untilAnswered(count: number): Promise<string[]> {
    await eventually(() => expect(this.answers).toHaveLength(count));
    return this.answers;
  }

  async untilClosed(): Promise<void> {
    if (!this.socket.closed) await once(this.socket, 'close');
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

/** Sends each piece when what was sent before has probably been read by itself. */
export async function sendInPieces({ socket }: Client, pieces: readonly (string | Buffer)[]): Promise<void> {
  if (socket.connecting) await once(socket, 'connect');
  for (const piece of pieces) {
    socket.write(piece);
    await pause(1);
  }
}

export const idsOf = (answers: readonly string[]): unknown[] =>
  answers.map((answer) => /x-request-id: (\S+)/.exec(answer)?.[1]);

/** Node reads this one, and all that follow it. */
export const FOR_NODE = 'GET /health HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-A: 2\r\n\r\n';
