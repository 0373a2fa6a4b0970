/** Slots of an empty set: a rule with a few subjects costs next to nothing. */
const FIRST_SLOTS = 64;
/** A set is made larger before it is fuller than this; probing stays short. */
const MOST_FULL = 0.6;
const EMPTY = 0;

/**
 * Which subjects were seen, as 32 bits of each: 4 bytes a slot, and at most 3.4 slots a subject. Of n subjects it takes
 * one that it never saw for a known one with a probability of n / 2^32: 0.023 % at a million. It never forgets one.
 */
export class SubjectSet {
  #slots = new Uint32Array(FIRST_SLOTS);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get bytes(): number {
    return this.#slots.byteLength;
  }

  has(print: number): boolean {
    return this.#slots[slotOf(this.#slots, print)] === stored(print);
  }

  /** False if it was there already. */
  add(print: number): boolean {
    const slot = slotOf(this.#slots, print);
    if (this.#slots[slot] !== EMPTY) return false;
    this.#slots[slot] = stored(print);
    this.#size += 1;
    if (this.#size > this.#slots.length * MOST_FULL) this.#grow();
    return true;
  }

  #grow(): void {
    const larger = new Uint32Array(this.#slots.length * 2);
    for (const print of this.#slots) if (print !== EMPTY) larger[slotOf(larger, print)] = print;
    this.#slots = larger;
  }
}

/** The slot of a print, or the empty one where it would be. There always is one. */
function slotOf(slots: Uint32Array, print: number): number {
  const mask = slots.length - 1;
  const wanted = stored(print);
  // Spreads the bits, so that prints with equal low bits do not crowd.
  let slot = (Math.imul(wanted, 0x9e37_79b1) >>> 7) & mask;
  while (slots[slot] !== EMPTY && slots[slot] !== wanted) slot = (slot + 1) & mask;
  return slot;
}

/** 0 marks an empty slot. */
const stored = (print: number): number => print >>> 0 || 1;

/** 32 bits of a subject (FNV-1a). Another seed gives others: who does not know it cannot look for one taken for known. */
export function printOf(subject: string, seed: number): number {
  let print = seed;
  for (let i = 0; i < subject.length; i += 1) print = Math.imul(print ^ subject.charCodeAt(i), 0x0100_0193);
  return print >>> 0;
}
