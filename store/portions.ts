/** Items in order, in portions of at most so much each, or of one item that is more than that. */
export function* portionsOf<T>(items: readonly T[], most: number, sizeOf: (item: T) => number): Generator<T[]> {
  let portion: T[] = [];
  let total = 0;
  for (const item of items) {
    const size = sizeOf(item);
    if (portion.length > 0 && total + size > most) {
      yield portion;
      [portion, total] = [[], 0];
    }
    portion.push(item);
    total += size;
  }
  if (portion.length > 0) yield portion;
}
