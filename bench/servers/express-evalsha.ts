// The middleware that one would write without Sluice.
import { CONSUMER_HEADER, serveExpress } from './express-app.ts';
import { tokenBucket } from './token-bucket.ts';

const take = await tokenBucket();

serveExpress([
  async (request, response, next) => {
    const { allowed, remaining, retry_after: retryAfter } = await take(request.get(CONSUMER_HEADER) ?? '');
    response.set('x-ratelimit-remaining', String(remaining));
    if (allowed) next();
    else
      response
        .status(429)
        .set('retry-after', String(Math.ceil(retryAfter)))
        .json({ allowed });
  },
]);
