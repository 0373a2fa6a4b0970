import type { RedisClient } from '../store/connection.ts';
import { findManifest } from '../store/configuration.ts';
import type { Names } from '../store/names.ts';
import { type HeadState, type Settling, settle } from '../store/publish.ts';
import { referencesOf } from './published.ts';

/** What a publish of many documents leaves to be let go of, in whichever operator it began. */
export class Leftovers {
  readonly #redis: RedisClient;
  readonly #names: Names;
  readonly #owner: string;
  /** Of this operator's last publish: nothing has to be read for them. */
  #own: (Settling & { readonly documents: readonly string[] }) | undefined;

  constructor(redis: RedisClient, names: Names, owner: string) {
    this.#redis = redis;
    this.#names = names;
    this.#owner = owner;
  }

  get hasOwn(): boolean {
    return this.#own !== undefined;
  }

  /** @param documents those that a publish of this operator made needless, its manifest's parts first. */
  note(settling: Settling | undefined, documents: readonly string[]): void {
    this.#own = settling && { ...settling, documents };
  }

  /**
   * Leaves them to expire. If a manifest cannot be read, nothing is let go of: what stays harms nobody.
   *
   * @param inForce documents that head refers to; undefined if that cannot be known. Throws StoreError.
   */
  async letGo({ head, settling }: HeadState, inForce: () => Promise<readonly string[] | undefined>): Promise<void> {
    if (settling !== undefined) {
      const isOwn = this.#own?.mark === settling.mark;
      const leaving = (isOwn ? this.#own?.documents : await this.#find(settling, inForce)) ?? [];
      await settle(this.#redis, this.#names, { owner: this.#owner, head, settling, leaving });
    }
    this.#own = undefined;
  }

  async #find(
    { manifest }: Settling,
    inForce: () => Promise<readonly string[] | undefined>,
  ): Promise<readonly string[] | undefined> {
    const kept = await inForce();
    const other = await findManifest(this.#redis, this.#names, manifest);
    if (kept === undefined || other === undefined) return undefined;
    const needed = new Set(kept);
    return referencesOf(other).filter((name) => !needed.has(name));
  }
}
