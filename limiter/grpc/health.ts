import type { sendUnaryData, ServerUnaryCall, ServerWritableStream, UntypedServiceImplementation } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';

const SERVING = 1;
const NOT_SERVING = 2;
const SERVICE_UNKNOWN = 3;

type Question = { readonly service: string };
type Watcher = { readonly call: ServerWritableStream<Question, object>; last: number };

/** Watchers beyond this many are refused: each is a stream that stays open. */
const MAX_WATCHERS = 1_000;

/** grpc.health.v1.Health: whether the server as a whole ('') and each of its services can be used now. */
export class Health {
  readonly #services: ReadonlySet<string>;
  readonly #isServing: () => boolean;
  readonly #watchers = new Set<Watcher>();

  constructor(services: readonly string[], isServing: () => boolean) {
    this.#services = new Set(['', ...services]);
    this.#isServing = isServing;
  }

  readonly implementation: UntypedServiceImplementation = {
    Check: (call: ServerUnaryCall<Question, object>, callback: sendUnaryData<object>) => {
      const { service } = call.request;
      if (this.#services.has(service)) callback(null, { status: this.#statusOf(service) });
      else callback({ code: status.NOT_FOUND, details: 'there is no such service' });
    },
    Watch: (call: ServerWritableStream<Question, object>) => {
      if (this.#watchers.size >= MAX_WATCHERS) {
        call.emit('error', { code: status.RESOURCE_EXHAUSTED, details: 'too many watchers' });
        return;
      }
      const watcher: Watcher = { call, last: this.#statusOf(call.request.service) };
      this.#watchers.add(watcher);
      call.on('cancelled', () => this.#watchers.delete(watcher));
      call.on('error', () => this.#watchers.delete(watcher));
      call.write({ status: watcher.last });
    },
  };

  /** Tells those who watch what has changed. */
  tell(): void {
    for (const watcher of this.#watchers) {
      const now = this.#statusOf(watcher.call.request.service);
      if (now === watcher.last) continue;
      watcher.last = now;
      watcher.call.write({ status: now });
    }
  }

  /** Nobody is told anything any more. */
  close(): void {
    for (const { call } of this.#watchers) call.end();
    this.#watchers.clear();
  }

  #statusOf(service: string): number {
    if (!this.#services.has(service)) return SERVICE_UNKNOWN;
    return this.#isServing() ? SERVING : NOT_SERVING;
  }
}
