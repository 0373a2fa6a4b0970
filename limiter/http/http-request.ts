// One request, however it was read: what the endpoints see of it.
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { readBody, textOf } from './body.ts';
import { MAX_BODY_BYTES } from './request.ts';

export type HttpRequest = {
  readonly method: string;
  /** Path and query, as they came. */
  readonly url: string;
  /** By name in lower case; values of one that came more than once are joined by ", ". */
  readonly headers: ReadonlyMap<string, string>;
  readonly socket: Socket;
  /** The body as text. Throws, or rejects with, BadRequest if it is not UTF-8, or larger than `maxBytes`. */
  readBody(maxBytes?: number): string | Promise<string>;
};

/** A request that came as a whole. */
export class WholeRequest implements HttpRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: ReadonlyMap<string, string>;
  readonly socket: Socket;
  readonly #body: Buffer;

  constructor({ method, url, headers }: Pick<HttpRequest, 'method' | 'url' | 'headers'>, socket: Socket, body: Buffer) {
    this.method = method;
    this.url = url;
    this.headers = headers;
    this.socket = socket;
    this.#body = body;
  }

  readBody(maxBytes: number = MAX_BODY_BYTES): string {
    return textOf(this.#body, maxBytes);
  }
}

/** A request that Node reads. */
export class NodeRequest implements HttpRequest {
  readonly method: string;
  readonly url: string;
  readonly socket: Socket;
  readonly #message: IncomingMessage;
  #headers: ReadonlyMap<string, string> | undefined;

  constructor(message: IncomingMessage) {
    this.method = message.method ?? '';
    this.url = message.url ?? '';
    this.socket = message.socket;
    this.#message = message;
  }

  get headers(): ReadonlyMap<string, string> {
    return (this.#headers ??= headersOf(this.#message));
  }

  /** Whether its sender went away before all of it was there. */
  get isGivenUp(): boolean {
    return this.#message.destroyed && !this.#message.complete;
  }

  readBody(maxBytes?: number): Promise<string> {
    return readBody(this.#message, maxBytes);
  }
}

function headersOf(message: IncomingMessage): ReadonlyMap<string, string> {
  const headers = new Map<string, string>();
  for (const [name, value] of Object.entries(message.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(', ') : value);
  }
  return headers;
}
