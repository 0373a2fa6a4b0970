/** Who was denied how often, as far as this pod saw it. */
export type DeniedEntry = {
  /** `caller:…`, `key:sha256:…` (the beginning of the hash that a Consumer lists), `ip:…`, or `unknown`. */
  readonly who: string;
  /** At most this often; the true number is at least `denials - uncertainty`. */
  readonly denials: number;
  readonly uncertainty: number;
  readonly lastReason: string;
  readonly lastAtMillis: number;
};

type Entry = { -readonly [Field in keyof DeniedEntry]: DeniedEntry[Field] };

/**
 * The most denied, in fixed memory (the "space saving" method): a newcomer takes the place of one of the least denied and
 * inherits its count, which is kept as the uncertainty. Whoever makes up more than one in `most` of all denials is always
 * in the list.
 *
 * Every denial comes through here, and a flood of ever new names must cost no more than others: entries are kept by their
 * count, which goes up by one at a time, and so does the smallest. Nothing is ever looked for.
 */
export class MostDenied {
  readonly #most: number;
  readonly #entries = new Map<string, Entry>();
  readonly #byCount = new Map<number, Set<Entry>>();
  #fewest = 1;

  constructor(most: number) {
    this.#most = most;
  }

  note(who: string, reason: string, atMillis: number): void {
    const entry = this.#entries.get(who) ?? this.#newcomer(who);
    this.#countOne(entry);
    entry.lastReason = reason;
    entry.lastAtMillis = atMillis;
  }

  /** The most denied first. */
  top(): readonly DeniedEntry[] {
    const entries = [...this.#entries.values()].map((entry) => ({ ...entry }));
    return entries.toSorted((one, other) => other.denials - one.denials);
  }

  /** With the count of whoever had to go, and not yet counted for this denial. */
  #newcomer(who: string): Entry {
    const inherited = this.#entries.size < this.#most ? 0 : this.#dropOneOfTheLeast();
    const entry: Entry = { who, denials: inherited, uncertainty: inherited, lastReason: '', lastAtMillis: 0 };
    this.#entries.set(who, entry);
    if (inherited === 0) this.#fewest = 1;
    return entry;
  }

  #dropOneOfTheLeast(): number {
    const least = this.#byCount.get(this.#fewest);
    const [entry] = least ?? [];
    if (entry === undefined) return 0;
    least?.delete(entry);
    this.#entries.delete(entry.who);
    return entry.denials;
  }

  #countOne(entry: Entry): void {
    const from = this.#byCount.get(entry.denials);
    from?.delete(entry);
    if (from?.size === 0) {
      this.#byCount.delete(entry.denials);
      // Whoever had the smallest count has the next one now: nobody is in between.
      if (entry.denials === this.#fewest) this.#fewest += 1;
    }
    entry.denials += 1;
    const to = this.#byCount.get(entry.denials);
    if (to !== undefined) to.add(entry);
    // The set that is left empty serves again: whoever is denied most has one of its own each time.
    else this.#byCount.set(entry.denials, from?.size === 0 ? from.add(entry) : new Set([entry]));
  }
}
