// The floor under everything: what HTTP and JSON alone cost.
import { serve } from './json-server.ts';

serve(({ consumer }) => ({ allowed: true, remaining: consumer.length, retry_after: 0 }));
