// Our middleware, in front of the limiter at $LIMITER_URL.
import { sluice } from '../../client/index.ts';
import { CONSUMER_HEADER, serveExpress } from './express-app.ts';

serveExpress([
  sluice({
    endpoint: process.env['LIMITER_URL'] ?? '',
    domain: 'bench.one-rule',
    keyGenerator: (request) => request.get(CONSUMER_HEADER) ?? '',
    // What could not be decided is an error of the benchmark, and a pause of a busy machine is none.
    onError: 'deny',
    timeoutMs: 5_000,
  }),
]);
