// The head of a request as nearly every caller sends it. What is read here is a strict part of what HTTP/1.1 allows,
// on which no two readers differ; all else is left to Node's own reader.

export type Head = {
  readonly method: string;
  readonly url: string;
  /** By name in lower case, each of which came once. */
  readonly headers: ReadonlyMap<string, string>;
  /** Where the body begins, and where it ends, in bytes. */
  readonly bodyStart: number;
  readonly end: number;
};

/** Longer ones are left to Node. */
const MAX_HEAD_BYTES = 8_192;

const REQUEST_LINE = /^(GET|POST|PUT|PATCH|DELETE|OPTIONS) (\/[\w\-.~%!$&'()*+,;=:@/?]*) HTTP\/1\.1$/;
const NAME = /^[\w!#$%&'*+\-.^`|~]+$/;
const LENGTH = /^\d{1,7}$/;

/** Anything but printable ASCII, and a part of a line's end that is not followed, or preceded, by the other. */
const UNUSUAL = /[^\t\r\n -~]|\r(?!\n)|(?<!\r)\n/;

/** Those that change where a request ends, or what becomes of its connection; and one that Node loses. */
const NOT_HERE: ReadonlySet<string> = new Set([
  'transfer-encoding',
  'upgrade',
  'expect',
  'proxy-connection',
  '__proto__',
]);

/** Spellings that are met all the time: to make lower case of a name again and again takes longer than all else. */
const COMMON: ReadonlyMap<string, string> = new Map(
  [
    'Host',
    'Content-Type',
    'Content-Length',
    'User-Agent',
    'Accept',
    'Accept-Encoding',
    'Accept-Language',
    'Connection',
    'X-Request-Id',
    'X-Request-ID',
    'X-Forwarded-For',
    'X-Forwarded-Proto',
  ].flatMap((name) => [
    [name, name.toLowerCase()],
    [name.toLowerCase(), name.toLowerCase()],
  ]),
);

/** The head at the beginning of these bytes; undefined if it is not all there, or is one for Node. */
export function readHead(bytes: Buffer): Head | undefined {
  const headEnd = bytes.indexOf('\r\n\r\n');
  if (headEnd === -1 || headEnd > MAX_HEAD_BYTES) return undefined;
  const text = bytes.toString('latin1', 0, headEnd);
  if (UNUSUAL.test(text)) return undefined;
  const lineEnd = text.indexOf('\r\n');
  const line = REQUEST_LINE.exec(lineEnd === -1 ? text : text.slice(0, lineEnd));
  const headers = lineEnd === -1 ? undefined : readHeaders(text, lineEnd + 2);
  if (line === null || headers === undefined) return undefined;
  const [, method = '', url = ''] = line;
  const length = headers.get('content-length') ?? '0';
  const connection = headers.get('connection') ?? 'keep-alive';
  if (!headers.has('host') || !LENGTH.test(length) || connection.toLowerCase() !== 'keep-alive') return undefined;
  const bodyStart = headEnd + 4;
  return { method, url, headers, bodyStart, end: bodyStart + Number(length) };
}

function readHeaders(text: string, start: number): Map<string, string> | undefined {
  const headers = new Map<string, string>();
  let at = start;
  while (at < text.length) {
    const next = text.indexOf('\r\n', at);
    const end = next === -1 ? text.length : next;
    const colon = text.indexOf(':', at);
    if (colon === -1) return undefined;
    const name = nameOf(text.slice(at, colon));
    if (name === undefined || NOT_HERE.has(name) || headers.has(name)) return undefined;
    headers.set(name, text.slice(colon + 1, end).trim());
    at = end + 2;
  }
  return headers;
}

function nameOf(spelled: string): string | undefined {
  return COMMON.get(spelled) ?? (NAME.test(spelled) ? spelled.toLowerCase() : undefined);
}
