// gRPC over HTTP/2 on plain sockets: reads requests and writes answers without an object of node:http2 or node:stream for
// each. Hands out one server; knows of calls, messages and codes, and nothing of what they mean.
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { Turn } from '../../turn.ts';
import { Allowance } from './allowance.ts';
import { Connection } from './connection.ts';
import type { Methods, Peer } from './method.ts';
import { Scratch } from './scratch.ts';

const MAX_CONNECTIONS = 10_000;
const HANDSHAKE_MILLIS = 5_000;
const SWEEP_MILLIS = 1_000;
/** How long calls may go on after their connection has become too old. */
const AGE_GRACE_MILLIS = 10_000;
/** Of unfinished messages and answers of all connections. */
const MAX_HELD_BYTES = 67_108_864;
/** Connections of one time do not all come back at one time. */
const AGE_SPREAD = 0.2;

export type Http2ServerOptions = {
  readonly methods: Methods;
  /** Who has connected; asked once for each connection. */
  readonly identify: (address: string | undefined) => Peer;
  readonly maxConnectionAgeMillis: number;
  readonly tls: { readonly cert: string; readonly key: string } | undefined;
  readonly onError: (error: unknown) => void;
};

export class Http2Server {
  readonly #options: Http2ServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #connections = new Set<Connection>();
  readonly #allowance = new Allowance(MAX_HELD_BYTES);
  readonly #scratch = new Scratch();
  /** When all requests of this turn of the event loop were read, each connection is written to once. */
  readonly #flushing = new Turn<Connection>((connection) => connection.flush(this.#scratch));
  readonly #sweeping: NodeJS.Timeout;

  constructor(options: Http2ServerOptions) {
    this.#options = options;
    this.#server = this.#createServer();
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    this.#sweeping = setInterval(() => this.#sweep(), SWEEP_MILLIS);
  }

  async listen(host: string, port: number): Promise<void> {
    this.#server.listen(port, host);
    await once(this.#server, 'listening');
    // One connection that cannot be accepted does not end the others.
    this.#server.on('error', this.#options.onError);
  }

  /** Lets calls end that are under way; after so long cuts them off. */
  async close(patienceMillis: number): Promise<void> {
    const impatience = setTimeout(() => {
      // Also those whose handshake is not over.
      for (const socket of this.#sockets) socket.destroy();
    }, patienceMillis);
    const isListening = this.#server.listening;
    const closed = isListening ? once(this.#server, 'close') : undefined;
    if (isListening) this.#server.close();
    for (const connection of this.#connections) connection.drain(patienceMillis);
    await closed;
    clearTimeout(impatience);
    clearInterval(this.#sweeping);
  }

  #createServer(): Server {
    const { tls } = this.#options;
    if (tls === undefined) return createServer({ noDelay: true }, (socket) => this.#accept(socket));
    const options = {
      ...tls,
      ALPNProtocols: ['h2'],
      minVersion: 'TLSv1.2',
      handshakeTimeout: HANDSHAKE_MILLIS,
    } as const;
    return createTlsServer({ ...options, noDelay: true }, (socket) => {
      if (socket.alpnProtocol === 'h2') this.#accept(socket);
      else socket.destroy();
    });
  }

  #accept(socket: Socket): void {
    const { methods, identify, maxConnectionAgeMillis, tls, onError } = this.#options;
    const ageMillis = maxConnectionAgeMillis * (1 + (Math.random() - 0.5) * AGE_SPREAD);
    const connection = new Connection(socket, {
      methods,
      peer: identify(socket.remoteAddress),
      isEncrypted: tls !== undefined,
      allowance: this.#allowance,
      retireMillis: performance.now() + ageMillis,
      graceMillis: AGE_GRACE_MILLIS,
      wantsFlush: (one) => this.#flushing.add(one),
      onClose: (one) => this.#connections.delete(one),
      onError,
    });
    this.#connections.add(connection);
  }

  #sweep(): void {
    const nowMillis = performance.now();
    for (const connection of this.#connections) connection.sweep(nowMillis);
  }
}
