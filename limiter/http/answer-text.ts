// An answer as HTTP/1.1 has it on the wire, as Node would write it on a connection that is kept.
import { STATUS_CODES } from 'node:http';
import type { HttpAnswer } from './answer.ts';

/** What callers are told: after so long without a request a connection may be closed. */
export const KEEP_ALIVE_SECONDS = 75;

/** What a header may not have: a line's end would begin another one. */
const FORBIDDEN = /[^\t -~]/;

export type AnswerText = { readonly text: string; readonly encoding: 'latin1' | 'utf8' };

/** The text of an answer, for a connection that is kept, in the encoding that writes it soonest. Throws ERR_INVALID_CHAR. */
export function answerText({ status, headers, body }: HttpAnswer): AnswerText {
  let text = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'unknown'}\r\n`;
  for (const name in headers) {
    const value = headers[name] ?? '';
    if (FORBIDDEN.test(value)) throw new UnwritableHeader(name);
    text += `${name}: ${value}\r\n`;
  }
  const length = Buffer.byteLength(body);
  text += `content-length: ${length}\r\nDate: ${dateNow()}\r\nConnection: keep-alive\r\nKeep-Alive: timeout=${KEEP_ALIVE_SECONDS}\r\n\r\n${body}`;
  return { text, encoding: length === body.length ? 'latin1' : 'utf8' };
}

class UnwritableHeader extends TypeError {
  /** As Node's own. */
  readonly code = 'ERR_INVALID_CHAR';

  constructor(name: string) {
    super(`the value of header ${name} has characters that a header cannot have`);
  }
}

let second = 0;
let date = '';

/** Made once a second. */
function dateNow(): string {
  const now = Math.floor(Date.now() / 1000);
  if (now !== second) {
    second = now;
    date = new Date(now * 1000).toUTCString();
  }
  return date;
}
