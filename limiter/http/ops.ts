import { createServer, type Server } from 'node:http';
import express from 'express';
import type { LimiterMetrics } from '../metrics.ts';

export type OpsParts = {
  readonly metrics: LimiterMetrics;
  readonly isReady: () => boolean;
  readonly problem: () => string | undefined;
};

/** Probes and metrics, on a port of their own that callers do not reach. */
export function createOps(parts: OpsParts): Server {
  const app = express();
  app.disable('x-powered-by').disable('etag');
  // The event loop answers: nothing else may turn a pod dead, least of all Redis.
  app.get('/livez', (_request, response) => {
    response.json({ status: 'ok' });
  });
  app.get('/readyz', (_request, response) => {
    const isReady = parts.isReady();
    const problem = parts.problem();
    response
      .status(isReady ? 200 : 503)
      .json({ status: isReady ? 'ok' : 'starting', ...(problem === undefined ? {} : { problem }) });
  });
  app.get('/metrics', async (_request, response) => {
    response.type(parts.metrics.registry.contentType).send(await parts.metrics.registry.metrics());
  });
  return createServer(app);
}
