// What applications use: a client of the limiter's decision API, and Express middleware on top of it. Imports nothing
// else of Sluice, so that it can be published on its own.
export { type RateLimitInfo, sluice, type SluiceOptions } from './express.ts';
export {
  type CheckAnswer,
  type CheckInput,
  type CheckOutcome,
  LimiterClient,
  type LimiterClientOptions,
  LimiterError,
} from './limiter-client.ts';
