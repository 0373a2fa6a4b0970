// A strict reader of structured fields (RFC 9651), as far as the RateLimit fields need it: a List of Strings with
// parameters. Whatever the grammar does not allow throws; a client would ignore the whole field.

export type Bare = number | string | boolean | Buffer;
export type Item = { readonly value: Bare; readonly parameters: ReadonlyMap<string, Bare> };

export function parseList(field: string): Item[] {
  const reader = new Reader(field.replace(/^ +| +$/g, ''));
  const items: Item[] = [];
  if (reader.isAtEnd) throw new SyntaxError('an empty list is no field');
  for (;;) {
    items.push({ value: reader.bare(), parameters: reader.parameters() });
    reader.skip(/[ \t]*/y);
    if (reader.isAtEnd) return items;
    reader.take(/,/y, 'a comma');
    reader.skip(/[ \t]*/y);
    if (reader.isAtEnd) throw new SyntaxError('a comma at the end');
  }
}

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#text.length;
  }

  skip(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    this.#at += found?.length ?? 0;
    return found;
  }

  take(pattern: RegExp, what: string): string {
    const found = this.skip(pattern);
    if (found === undefined || found === '') throw new SyntaxError(`${what} expected at ${this.#at} of ${this.#text}`);
    return found;
  }

  parameters(): Map<string, Bare> {
    const parameters = new Map<string, Bare>();
    while (this.skip(/;/y) === ';') {
      this.skip(/ */y);
      const key = this.take(/[a-z*][a-z0-9_.*-]*/y, 'a key');
      parameters.set(key, this.skip(/=/y) === '=' ? this.bare() : true);
    }
    return parameters;
  }

  bare(): Bare {
    const first = this.#text.charAt(this.#at);
    if (first === '"') {
      const quoted = this.take(/"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"/y, 'a string');
      return quoted.slice(1, -1).replaceAll(/\\(.)/g, '$1');
    }
    if (first === ':') return Buffer.from(this.take(/:[A-Za-z0-9+/=]*:/y, 'bytes').slice(1, -1), 'base64');
    if (first === '?') return this.take(/\?[01]/y, 'a boolean') === '?1';
    const number = this.take(/-?[0-9]{1,15}(?![0-9.])/y, 'an integer');
    return Number(number);
  }
}
