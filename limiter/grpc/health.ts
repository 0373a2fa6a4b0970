import type { Call } from './http2/call.ts';
import type { Method } from './http2/method.ts';
import { healthMessage, readService } from './messages.ts';
import { HEALTH_SERVICE } from './services.ts';
import { status } from './status.ts';

const SERVING = 1;
const NOT_SERVING = 2;
const SERVICE_UNKNOWN = 3;

type Watcher = { readonly service: string; last: number };

/** Watchers beyond this many are refused: each is a stream that stays open. */
const MAX_WATCHERS = 1_000;

/** grpc.health.v1.Health: whether the server as a whole ('') and each of its services can be used now. */
export class Health {
  readonly #services: ReadonlySet<string>;
  readonly #isServing: () => boolean;
  readonly #watchers = new Map<Call, Watcher>();

  constructor(services: readonly string[], isServing: () => boolean) {
    this.#services = new Set(['', ...services]);
    this.#isServing = isServing;
  }

  readonly methods: readonly (readonly [path: string, method: Method])[] = [
    [`/${HEALTH_SERVICE}/Check`, { isUnary: true, receive: (call, message) => this.#check(call, message) }],
    [
      `/${HEALTH_SERVICE}/Watch`,
      {
        isUnary: false,
        receive: (call, message) => this.#watch(call, message),
        cancel: (call) => this.#watchers.delete(call),
      },
    ],
  ];

  /** Tells those who watch what has changed. */
  tell(): void {
    for (const [call, watcher] of this.#watchers) {
      const now = this.#statusOf(watcher.service);
      if (now === watcher.last) continue;
      watcher.last = now;
      call.write(healthMessage(now));
    }
  }

  /** Nobody is told anything any more. */
  close(): void {
    for (const call of this.#watchers.keys()) call.succeed();
    this.#watchers.clear();
  }

  #check(call: Call, message: Buffer): void {
    const service = this.#serviceIn(call, message);
    if (service === undefined) return;
    if (this.#services.has(service)) call.answer(healthMessage(this.#statusOf(service)));
    else call.end(status.NOT_FOUND, 'there is no such service');
  }

  #watch(call: Call, message: Buffer): void {
    const service = this.#serviceIn(call, message);
    if (service === undefined) return;
    if (this.#watchers.has(call)) {
      call.end(status.INTERNAL, 'there is more than one message');
    } else if (this.#watchers.size >= MAX_WATCHERS) {
      call.end(status.RESOURCE_EXHAUSTED, 'too many watchers');
    } else {
      const watcher: Watcher = { service, last: this.#statusOf(service) };
      this.#watchers.set(call, watcher);
      call.write(healthMessage(watcher.last));
    }
  }

  /** Undefined if the message cannot be read; the call has ended by it then. */
  #serviceIn(call: Call, message: Buffer): string | undefined {
    try {
      return readService(message);
    } catch {
      call.end(status.INTERNAL, 'the message cannot be decoded');
      return undefined;
    }
  }

  #statusOf(service: string): number {
    if (!this.#services.has(service)) return SERVICE_UNKNOWN;
    return this.#isServing() ? SERVING : NOT_SERVING;
  }
}
