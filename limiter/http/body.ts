import { isUtf8 } from 'node:buffer';
import type { IncomingMessage } from 'node:http';
import { BadRequest, MAX_BODY_BYTES } from './request.ts';

/** A body as text. Throws BadRequest if it is not UTF-8, and if it is too large. */
export function textOf(body: Buffer, maxBytes: number): string {
  if (body.length > maxBytes) throw tooLarge(maxBytes);
  // What is decoded leniently makes one text, and one counter, of different names.
  if (!isUtf8(body)) throw new BadRequest('BODY_NOT_JSON', 'the body is not valid UTF-8');
  return body.toString('utf8');
}

/** The body of a request that is still coming, as text; what is too large is not kept. Rejects with BadRequest. */
export async function readBody(request: IncomingMessage, maxBytes: number = MAX_BODY_BYTES): Promise<string> {
  return textOf(await bytesOf(request, maxBytes), maxBytes);
}

function bytesOf(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
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
      reject(tooLarge(maxBytes));
    });
    request.once('end', () => resolve(chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks)));
    request.once('error', reject);
    request.once('aborted', () => reject(new Error('the caller went away')));
  });
}

function tooLarge(maxBytes: number): BadRequest {
  return new BadRequest('BODY_TOO_LARGE', `the body is larger than ${maxBytes} bytes`);
}
