// The server that one would write without Sluice.
import { serve } from './json-server.ts';
import { tokenBucket } from './token-bucket.ts';

const take = await tokenBucket();

serve(({ consumer }) => take(consumer));
