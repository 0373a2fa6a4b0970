import type { Redis } from 'ioredis';

/** What becomes of one call: of what was lost before Redis had it, and of what it did, the process hears the same. */
export type Fate = 'runs' | 'call lost' | 'reply lost' | 'dies before' | 'dies after';

/** Something that lives on Redis, and of which each call waits until it is said what becomes of it. One call at a time. */
export class Stepwise {
  readonly #server: Redis;
  #isDead = false;
  #turn: ((fate: Fate) => void) | undefined;
  #waits = Promise.withResolvers<undefined>();
  #isOver = false;

  /** @param live is given the connection to use, and ends when nothing more is to be done. */
  constructor(server: Redis, live: (redis: Redis, self: Stepwise) => Promise<void>) {
    this.#server = server;
    void live(this.#redis(), this).finally(() => {
      this.#isOver = true;
      this.#waits.resolve(undefined);
    });
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Whoever died does nothing any more: all of its calls fail until it is replaced. */
  get isDead(): boolean {
    return this.#isDead;
  }

  replace(): void {
    this.#isDead = false;
  }

  /** Resolves when the next call waits, or there is none. */
  async let(fate: Fate): Promise<void> {
    await this.#waits.promise;
    if (this.#isOver) return;
    this.#waits = Promise.withResolvers();
    this.#turn?.(fate);
    await this.#waits.promise;
  }

  async finish(): Promise<void> {
    while (!this.#isOver) await this.let('runs');
  }

  async #call<T>(run: () => Promise<T>): Promise<T> {
    if (this.#isDead) throw new Error('it is dead');
    const fate = await new Promise<Fate>((resolve) => {
      this.#turn = resolve;
      this.#waits.resolve(undefined);
    });
    if (fate === 'dies before' || fate === 'dies after') this.#isDead = true;
    if (fate === 'call lost' || fate === 'dies before') throw new Error('Connection is closed.');
    const reply = await run();
    if (fate === 'reply lost' || fate === 'dies after') throw new Error('Connection is closed.');
    return reply;
  }

  #redis(): Redis {
    const wrap = <O extends object>(target: O, waits: (name: string) => boolean): O =>
      new Proxy(target, {
        get: (object, name) => {
          const member: unknown = Reflect.get(object, name);
          if (typeof member !== 'function' || typeof name !== 'string') return member;
          if (name === 'pipeline') return () => wrap(this.#server.pipeline(), (command) => command === 'exec');
          const run = (...args: unknown[]): unknown => Reflect.apply(member, object, args);
          return waits(name) ? (...args: unknown[]) => this.#call(async () => run(...args)) : run;
        },
      });
    return wrap(this.#server, () => true);
  }
}
