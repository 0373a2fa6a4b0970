import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import type { Registry } from 'prom-client';

export type OpsOptions = {
  readonly host: string;
  /** 0 = any free one. */
  readonly port: number;
  readonly registry: Registry;
  /** Why the operator is not ready, undefined if it is. */
  readonly problem: () => string | undefined;
  /** Known faults that do not make it unready. */
  readonly warnings: () => readonly string[];
};

export type Ops = { readonly port: number; stop(): Promise<void> };

/** Probes and metrics, on a port of their own. Resolves when it listens. */
export async function startOps(options: OpsOptions): Promise<Ops> {
  const server = createServer(createApp(options));
  server.listen(options.port, options.host);
  await once(server, 'listening');
  return { port: portOf(server), stop: () => close(server) };
}

function createApp({ registry, problem, warnings }: OpsOptions): express.Express {
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
