import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import type { Registry } from 'prom-client';
import type { Snapshot } from './snapshot.ts';

export type OpsOptions = {
  readonly host: string;
  /** 0 = any free one. */
  readonly port: number;
  readonly registry: Registry;
  /** Why the operator is not ready, undefined if it is. */
  readonly problem: () => string | undefined;
  /** Known faults that do not make it unready. */
  readonly warnings: () => readonly string[];
  /** What is in force, for limiters that start while Redis is away. */
  readonly snapshot: () => Snapshot | undefined;
};

export type Ops = { readonly port: number; stop(): Promise<void> };

/** Probes and metrics, on a port of their own. Resolves when it listens. */
export async function startOps(options: OpsOptions): Promise<Ops> {
  const server = createServer(createApp(options));
  server.listen(options.port, options.host);
  await once(server, 'listening');
  return { port: portOf(server), stop: () => close(server) };
}

function createApp({ registry, problem, warnings, snapshot }: OpsOptions): express.Express {
  const app = express();
  app.disable('x-powered-by').disable('etag');
  // The event loop answers: nothing else may turn an operator dead, least of all the API server or Redis.
  app.get('/livez', (_request, response) => {
    response.json({ status: 'ok' });
  });
  app.get('/readyz', (_request, response) => {
    const why = problem();
    const known = warnings();
    response.status(why === undefined ? 200 : 503).json({
      status: why === undefined ? 'ok' : 'starting',
      ...(why === undefined ? {} : { problem: why }),
      ...(known.length === 0 ? {} : { warnings: known }),
    });
  });
  app.get('/metrics', async (_request, response) => {
    response.type(registry.contentType).send(await registry.metrics());
  });
  app.get('/snapshot', (request, response) => {
    const current = snapshot();
    if (current === undefined) {
      const detail = 'what is in force is not known';
      response
        .status(503)
        .set({ 'content-type': 'application/problem+json', 'retry-after': '1' })
        .send(JSON.stringify({ type: 'about:blank', title: 'Service Unavailable', status: 503, detail }));
      return;
    }
    response.set('etag', current.etag);
    if (request.get('if-none-match') === current.etag) response.status(304).end();
    else response.type('json').send(current.body);
  });
  return app;
}

function portOf(server: Server): number {
  const address: AddressInfo | string | null = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

async function close(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}
