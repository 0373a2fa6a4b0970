// The application that the three Express servers share: one route behind one middleware that limits it, or does not.
import express, { type RequestHandler } from 'express';
import { processorTime } from './json-server.ts';

/** Whom a request is from, as an application knows it after its own log-in. */
export const CONSUMER_HEADER = 'x-consumer';

/** Serves on 127.0.0.1:$PORT until SIGTERM. */
export function serveExpress(limited: readonly RequestHandler[]): void {
  const app = express();
  app.get('/metrics', (_request, response) => void response.type('text/plain').send(processorTime()));
  app.use(...limited, (_request, response) => void response.json({ allowed: true }));
  app.listen(Number(process.env['PORT']), '127.0.0.1');
  process.once('SIGTERM', () => process.exit(0));
}
