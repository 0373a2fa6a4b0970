import { once } from 'node:events';
import { createServer } from 'node:http';
import express from 'express';
import { sluice } from '../../client/index.ts';

export type DemoAppOptions = { readonly host: string; readonly port: number; readonly limiters: readonly string[] };

export type DemoApp = { stop(): Promise<void> };

const MINUTES = 60;

type Minute = { minute: number; allowed: number; blocked: number };

/** Decisions of the last hour, one slot for each minute. */
class LastHour {
  readonly #slots: Minute[] = Array.from({ length: MINUTES }, () => ({ minute: -1, allowed: 0, blocked: 0 }));

  count(allowed: boolean): void {
    const minute = Math.floor(Date.now() / 60_000);
    const slot = this.#slots[minute % MINUTES];
    if (slot === undefined) return;
    if (slot.minute !== minute) Object.assign(slot, { minute, allowed: 0, blocked: 0 });
    if (allowed) slot.allowed += 1;
    else slot.blocked += 1;
  }

  totals(): { total: number; allowed: number; blocked: number } {
    const oldest = Math.floor(Date.now() / 60_000) - MINUTES;
    const counted = this.#slots.filter((slot) => slot.minute > oldest);
    const allowed = counted.reduce((sum, slot) => sum + slot.allowed, 0);
    const blocked = counted.reduce((sum, slot) => sum + slot.blocked, 0);
    return { total: allowed + blocked, allowed, blocked };
  }
}

/** An application as users write them: the middleware in front of its routes, the limits in examples/dev. */
export async function startDemoApp(options: DemoAppOptions): Promise<DemoApp> {
  const app = express();
  app.disable('x-powered-by').disable('etag');
  // As the limits see paths: /api/data/ and /API/data are other paths, and not ways around the limit of /api/data.
  app.enable('strict routing').enable('case sensitive routing');
  const hour = new LastHour();
  const onDecision = ({ allowed }: { allowed: boolean }): void => hour.count(allowed);
  const shared = { endpoint: options.limiters, timeoutMs: 1_000, onDecision };
  app.use('/api', sluice({ ...shared, domain: 'demo' }));
  app.use('/test', sluice({ ...shared, domain: 'demo.tiers' }));
  app.all('/api/data', (_request, response) => void response.json({ data: [1, 2, 3] }));
  app.all('/api/search', (request, response) => void response.json({ query: request.query['q'] ?? '', results: [] }));
  app.all('/api/upload', (_request, response) => void response.status(201).json({ stored: true }));
  app.all('/test', (_request, response) => void response.json({ message: 'you passed' }));
  app.get('/health', (_request, response) => void response.json({ status: 'ok' }));
  app.get('/metrics', (_request, response) => void response.json({ window: '1h', ...hour.totals() }));
  const server = createServer(app);
  server.listen(options.port, options.host);
  await once(server, 'listening');
  return {
    stop: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
