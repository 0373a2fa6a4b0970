import type { RequestContext } from './selection.ts';

const MAX_TEXT_BYTES = 256;

/** What stands at the end of a text that was cut. */
const CUT = '...';

/** Names and values of axes, in order of the names, or the first axis for which the request has no value. */
export function axisValues(
  axes: readonly string[],
  context: RequestContext,
  route: string | undefined,
): readonly string[] | { readonly missing: string } {
  const parts: string[] = [];
  for (const axis of axes) {
    const value = axisValue(axis, context, route);
    if (value === undefined) return { missing: axis };
    parts.push(axis, value);
  }
  return parts;
}

function axisValue(axis: string, context: RequestContext, route: string | undefined): string | undefined {
  switch (axis) {
    case 'consumer':
      return context.consumer;
    case 'tenant':
      return context.tenant;
    case 'clientIP':
      return context.clientIP;
    case 'route':
      return route;
    case 'method':
      return context.method;
    case 'global':
      return '';
    default:
      return keyedAxisValue(axis, context);
  }
}

function keyedAxisValue(axis: string, context: RequestContext): string | undefined {
  const colon = axis.indexOf(':');
  const key = axis.slice(colon + 1);
  switch (axis.slice(0, colon)) {
    case 'header':
      return context.headers?.get(key);
    case 'descriptor':
      return context.descriptors?.get(key);
    default:
      return context.attributes?.get(key);
  }
}

/** `payments/api consumer=key:acme`, cut between two characters to what the hash may hold. */
export function subjectText(policy: string, parts: readonly string[]): string {
  const pairs = [policy];
  for (let i = 0; i < parts.length; i += 2) pairs.push(`${parts[i]}=${parts[i + 1]}`);
  const text = pairs.join(' ').toWellFormed();
  // No character takes more than three bytes for each of its UTF-16 units.
  if (text.length * 3 <= MAX_TEXT_BYTES) return text;
  const bytes = Buffer.from(text);
  if (bytes.length <= MAX_TEXT_BYTES) return text;
  let end = MAX_TEXT_BYTES - CUT.length;
  while (isInsideCharacter(bytes[end])) end -= 1;
  return `${bytes.toString('utf8', 0, end)}${CUT}`;
}

/** Whether a byte of UTF-8 continues a character. */
function isInsideCharacter(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x80 && byte < 0xc0;
}
