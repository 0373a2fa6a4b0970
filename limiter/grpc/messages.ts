// Between gRPC's messages, as the protocol files describe them, and requests and answers of the rate limit service.
import { z } from 'zod';
import { CODES, type RlsAnswer, type RlsStatus, UNITS } from '../rls/answer.ts';
import type { RlsRequest } from '../rls/request.ts';

/** What the decoder makes of a message: every field is there. It has the types of the protocol already. */
const message = z.object({
  domain: z.string(),
  hits_addend: z.number(),
  descriptors: z.array(
    z.object({
      entries: z.array(z.object({ key: z.string(), value: z.string() })),
      limit: z.object({ requests_per_unit: z.number(), unit: z.number() }).nullable(),
      hits_addend: z.object({ value: z.number() }).nullable(),
      is_negative_hits: z.boolean(),
    }),
  ),
});

export function toRlsRequest(decoded: unknown): RlsRequest {
  const { domain, hits_addend: hitsAddend, descriptors } = message.parse(decoded);
  return {
    domain,
    hitsAddend,
    descriptors: descriptors.map((one) => ({
      entries: one.entries,
      hitsAddend: one.hits_addend?.value,
      isNegativeHits: one.is_negative_hits,
      limit: one.limit === null ? undefined : { requestsPerUnit: one.limit.requests_per_unit, unit: one.limit.unit },
    })),
  };
}

export function toMessage(answer: RlsAnswer): object {
  return {
    overall_code: CODES.indexOf(answer.overallCode),
    statuses: answer.statuses.map(toStatusMessage),
    response_headers_to_add: Object.entries(answer.headers).map(([key, value]) => ({ key, value })),
    dynamic_metadata: {
      fields: Object.fromEntries(
        Object.entries(answer.metadata).map(([name, value]) => [
          name,
          typeof value === 'number' ? { numberValue: value } : { stringValue: value },
        ]),
      ),
    },
  };
}

function toStatusMessage({ code, currentLimit, limitRemaining, secondsUntilReset }: RlsStatus): object {
  return {
    code: CODES.indexOf(code),
    ...(currentLimit === undefined
      ? {}
      : {
          current_limit: {
            name: currentLimit.name,
            requests_per_unit: currentLimit.requestsPerUnit,
            unit: UNITS.indexOf(currentLimit.unit),
          },
        }),
    limit_remaining: limitRemaining,
    ...(secondsUntilReset === undefined ? {} : { duration_until_reset: { seconds: secondsUntilReset } }),
  };
}
