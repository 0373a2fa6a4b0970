const MAX_PATH_LENGTH = 8192;

const UNRESERVED = /^[A-Za-z0-9._~-]$/;

/**
 * The one form in which paths are compared: unreserved characters decoded, other escapes in upper case, repeated
 * slashes collapsed, dot segments resolved (RFC 3986, section 5.2.4), query and fragment dropped. Case is kept.
 * Undefined if the text is no path: it does not begin with "/", holds a broken escape, a control character or
 * an encoded NUL, or is longer than 8192 characters.
 */
export function normalisePath(text: string): string | undefined {
  if (!text.startsWith('/') || text.length > MAX_PATH_LENGTH) return undefined;
  const end = text.search(/[?#]/);
  const raw = end === -1 ? text : text.slice(0, end);
  if (isPlain(raw)) return raw;
  const decoded = decodeUnreserved(raw);
  return decoded === undefined ? undefined : resolveDots(decoded);
}

/** Most paths need no work: no escapes, no "//", no segment that begins with a dot, no odd characters. */
function isPlain(path: string): boolean {
  return /^(\/[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*)*\/?$/.test(path);
}

function decodeUnreserved(path: string): string | undefined {
  let decoded = '';
  for (let i = 0; i < path.length; i += 1) {
    const character = path.charAt(i);
    const code = path.charCodeAt(i);
    if (code < 0x20 || code === 0x7f) return undefined;
    if (character !== '%') {
      decoded += character;
      continue;
    }
    const hex = path.slice(i + 1, i + 3);
    if (!/^[0-9A-Fa-f]{2}$/.test(hex) || hex === '00') return undefined;
    const plain = String.fromCharCode(Number.parseInt(hex, 16));
    decoded += UNRESERVED.test(plain) ? plain : `%${hex.toUpperCase()}`;
    i += 2;
  }
  return decoded;
}

function resolveDots(path: string): string {
  const kept: string[] = [];
  const segments = path.split('/');
  const last = segments.at(-1);
  for (const segment of segments) {
    if (segment === '..') kept.pop();
    else if (segment !== '' && segment !== '.') kept.push(segment);
  }
  const isFolder = last === '' || last === '.' || last === '..';
  return kept.length === 0 ? '/' : `/${kept.join('/')}${isFolder ? '/' : ''}`;
}
