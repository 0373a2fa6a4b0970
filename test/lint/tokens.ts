// Cuts TypeScript source into words, strings and signs: enough to find imports and names without being fooled by
// comments, strings, template literals or regular expressions. It imports nothing and hands out tokenize.

/** `text` of a string is its content; a template literal without substitution is a string too. */
export type Token = { readonly kind: 'word' | 'string' | 'sign'; readonly text: string; readonly line: number };

const SPACE = /(?:\s|\/\/[^\n]*|\/\*[^]*?(?:\*\/|$))+/uy;
const WORD = /[\p{ID_Continue}$#]+/uy;
// An unclosed one ends with its line, so that a mistake here cannot swallow the rest of the file.
const STRING = /'((?:[^'\\\n]|\\[^])*)(?:'|(?=\n)|$)|"((?:[^"\\\n]|\\[^])*)(?:"|(?=\n)|$)/uy;
const TEMPLATE_PART = /((?:[^`\\$]|\\[^]|\$(?!\{))*)(`|\$\{|$)/uy;
const REGEX = /\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/uy;
const SIGN = /\?\.(?!\d)|\.\.\.|=>|[^]/uy;
// After these words, as after most signs, a slash begins a regular expression; after other words and `)` it divides.
const BEFORE_REGEX = /^(?:return|typeof|case|in|of|delete|void|throw|new|do|else|yield|await|instanceof|default)$/u;

/** All of them in order; comments and white space are dropped, parts of templates between substitutions are signs. */
export function tokenize(source: string): Token[] {
  return new Scanner(source).scan();
}

class Scanner {
  readonly #source: string;
  readonly #tokens: Token[] = [];
  // One entry for each `${` that is open: how many braces are open inside it.
  readonly #substitutions: number[] = [];
  #at = 0;
  #line = 1;

  constructor(source: string) {
    this.#source = source;
  }

  scan(): Token[] {
    while (this.#at < this.#source.length) {
      if (this.#take(SPACE) === undefined && !this.#word() && !this.#string() && !this.#regex()) this.#sign();
    }
    return this.#tokens;
  }

  #word(): boolean {
    const line = this.#line;
    const match = this.#take(WORD);
    if (match !== undefined) this.#tokens.push({ kind: 'word', text: match[0], line });
    return match !== undefined;
  }

  #string(): boolean {
    const line = this.#line;
    const match = this.#take(STRING);
    if (match !== undefined) this.#tokens.push({ kind: 'string', text: match[1] ?? match[2] ?? '', line });
    return match !== undefined;
  }

  #regex(): boolean {
    const line = this.#line;
    if (this.#source[this.#at] !== '/' || !beginsRegex(this.#tokens.at(-1))) return false;
    const match = this.#take(REGEX);
    if (match !== undefined) this.#tokens.push({ kind: 'sign', text: '/…/', line });
    return match !== undefined;
  }

  #sign(): void {
    const line = this.#line;
    const text = this.#take(SIGN)?.[0] ?? '';
    const open = this.#substitutions.at(-1);
    if (text === '`') return this.#template(line, true);
    if (text === '}' && open === 0) {
      this.#substitutions.pop();
      return this.#template(line, false);
    }
    if (open !== undefined && text === '{') this.#substitutions.splice(-1, 1, open + 1);
    if (open !== undefined && text === '}') this.#substitutions.splice(-1, 1, open - 1);
    this.#tokens.push({ kind: 'sign', text, line });
  }

  /** The text of a template up to its end or its next substitution. */
  #template(line: number, isFirst: boolean): void {
    const [, text = '', end] = this.#take(TEMPLATE_PART) ?? [];
    if (end === '${') this.#substitutions.push(0);
    const isPlain = isFirst && end === '`';
    // Where a substitution begins, what follows is like the inside of a bracket: a slash there begins a regular expression.
    const sign = end === '${' ? '${' : '`';
    this.#tokens.push(isPlain ? { kind: 'string', text, line } : { kind: 'sign', text: sign, line });
  }

  #take(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#source) ?? undefined;
    if (match === undefined) return undefined;
    this.#at += match[0].length;
    this.#line += match[0].split('\n').length - 1;
    return match;
  }
}

function beginsRegex(before: Token | undefined): boolean {
  if (before === undefined) return true;
  if (before.kind === 'word') return BEFORE_REGEX.test(before.text);
  return before.kind === 'sign' && !/^(?:[)\]}`]|\/…\/)$/u.test(before.text);
}
