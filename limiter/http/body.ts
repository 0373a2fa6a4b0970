import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import { BadRequest, MAX_BODY_BYTES } from './request.ts';

/** The body as text. Throws BadRequest if it is not UTF-8, and if it is too large, without keeping what was read. */
export function readBody(request: IncomingMessage, maxBytes: number = MAX_BODY_BYTES): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= maxBytes) {
        chunks.push(chunk);
        return;
      }
      // The rest is let through unread: whoever is still sending would otherwise not see the answer.
      chunks.length = 0;
      request.removeAllListeners('data').resume();
      reject(new BadRequest('BODY_TOO_LARGE', `the body is larger than ${maxBytes} bytes`));
    });
    request.once('end', () => {
      const body = chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks);
      // What is decoded leniently makes one text, and one counter, of different names.
      if (isUtf8(body)) resolve(body.toString('utf8'));
      else reject(new BadRequest('BODY_NOT_JSON', 'the body is not valid UTF-8'));
    });
    request.once('error', reject);
    request.once('aborted', () => reject(new Error('the caller went away')));
  });
}
