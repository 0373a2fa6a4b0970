// The Huffman code of HPACK (RFC 7541, appendix B), read four bits at a time.

const EOS = 256;
const NODES = 256;
const NIBBLES = 16;

/** The length in bits of each symbol's code, in base 36; the last is EOS. The code is canonical: the lengths say it all. */
const LENGTHS =
  'dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6cad67777777777777777777777878djde6' +
  'f56565666577666567655677777fbedskmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmnlmnnkmmmnmmn' +
  'qqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrqu';

const SYMBOL_SHIFT = 8;
const EMITS = 1 << 16;
const FAILS = 1 << 17;

const tree = buildTree();
/** By node and nibble: the next node, in bits 8 to 15 the symbol if there is one, and whether there is one or a failure. */
const transitions = buildTransitions();
/** Nodes in which a text may end: after fewer than eight bits, all of them 1, of what would be EOS. */
const mayEnd = nodesOfPadding();

/** The longest text whose code is as long as the longest block of fields that is read. */
const MAX_TEXT_BYTES = 65_536;
/** Reused, as nobody reads it after the call that writes it. */
const text = Buffer.allocUnsafe(MAX_TEXT_BYTES);

/** The text behind these bytes, one character for each byte; undefined if they are no code, or too long. */
export function decodeHuffman(bytes: Buffer, start: number, end: number): string | undefined {
  let [node, length] = [0, 0];
  // Two nibbles of at least five bits for each symbol: at most one and a third symbols for each byte and one more.
  if ((end - start) * 2 > MAX_TEXT_BYTES) return undefined;
  for (let at = start; at < end; at += 1) {
    const byte = bytes[at] ?? 0;
    const first = transitions[node * NIBBLES + (byte >> 4)] ?? FAILS;
    if ((first & EMITS) !== 0) text[length++] = (first >> SYMBOL_SHIFT) & 0xff;
    const second = transitions[(first & 0xff) * NIBBLES + (byte & 0xf)] ?? FAILS;
    if ((second & EMITS) !== 0) text[length++] = (second >> SYMBOL_SHIFT) & 0xff;
    if (((first | second) & FAILS) !== 0) return undefined;
    node = second & 0xff;
  }
  return mayEnd.has(node) ? text.toString('latin1', 0, length) : undefined;
}

/** Two children for each node: the number of a node, or -1 - symbol. */
function buildTree(): Int16Array {
  const children = new Int16Array(NODES * 2);
  const lengths = Array.from(LENGTHS, (digit) => Number.parseInt(digit, 36));
  const symbols = lengths.map((_length, symbol) => symbol);
  symbols.sort((one, other) => (lengths[one] ?? 0) - (lengths[other] ?? 0) || one - other);
  let [code, lengthBefore, nodes] = [-1, 0, 1];
  for (const symbol of symbols) {
    const length = lengths[symbol] ?? 0;
    code = (code + 1) << (length - lengthBefore);
    lengthBefore = length;
    let node = 0;
    for (let bit = length - 1; bit > 0; bit -= 1) {
      const side = node * 2 + ((code >> bit) & 1);
      if (children[side] === 0) children[side] = nodes++;
      node = children[side] ?? 0;
    }
    children[node * 2 + (code & 1)] = -1 - symbol;
  }
  return children;
}

function buildTransitions(): Uint32Array {
  const table = new Uint32Array(NODES * NIBBLES);
  for (let node = 0; node < NODES; node += 1) {
    for (let nibble = 0; nibble < NIBBLES; nibble += 1) table[node * NIBBLES + nibble] = walk(node, nibble);
  }
  return table;
}

function walk(from: number, nibble: number): number {
  let [node, emitted] = [from, 0];
  for (let bit = 3; bit >= 0; bit -= 1) {
    const next = tree[node * 2 + ((nibble >> bit) & 1)] ?? 0;
    if (next === -1 - EOS) return FAILS;
    if (next < 0) emitted = EMITS | ((-1 - next) << SYMBOL_SHIFT);
    node = Math.max(next, 0);
  }
  return node | emitted;
}

function nodesOfPadding(): ReadonlySet<number> {
  const nodes = new Set<number>();
  for (let [node, depth] = [0, 0]; depth < 8; depth += 1) {
    nodes.add(node);
    node = tree[node * 2 + 1] ?? 0;
  }
  return nodes;
}
