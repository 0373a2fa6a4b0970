// What the comparison servers on node:http share: a JSON body in, a small JSON answer out. Nothing is checked that
// a server could do without, so that they are as fast as such a server can be.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Verdict } from './token-bucket.ts';

/** Serves on 127.0.0.1:$PORT until SIGTERM: POST / decides, GET /metrics says how much processor time was used. */
export function serve(decide: (body: { readonly consumer: string }) => Verdict | Promise<Verdict>): void {
  const server = createServer((request, response) => {
    if (request.method === 'GET') response.end(processorTime());
    else read(request, response, decide);
  });
  server.listen(Number(process.env['PORT']), '127.0.0.1');
  // An orderly end, so that a CPU profile is written if one was asked for.
  process.once('SIGTERM', () => process.exit(0));
}

function read(request: IncomingMessage, response: ServerResponse, decide: Parameters<typeof serve>[0]): void {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    void answer(response, decide, Buffer.concat(chunks).toString());
  });
}

async function answer(response: ServerResponse, decide: Parameters<typeof serve>[0], text: string): Promise<void> {
  try {
    const decision = decide(JSON.parse(text));
    // Waiting for what is there already would cost a turn of the queue.
    write(response, 200, decision instanceof Promise ? await decision : decision);
  } catch (error) {
    write(response, 500, { problem: String(error) });
  }
}

function write(response: ServerResponse, status: number, content: object): void {
  const body = JSON.stringify(content);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

/** Of this process, in the text format of Prometheus, under the name that the limiter uses, too. */
export function processorTime(): string {
  const { user, system } = process.cpuUsage();
  return `process_cpu_seconds_total ${(user + system) / 1_000_000}\n`;
}
