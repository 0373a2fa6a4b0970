import type { Dispatcher } from 'undici';

/** What the API server answered instead of success. `reason` is that of its Status object, if it sent one. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly code = 'API_ERROR';
  readonly status: number;
  readonly reason: string;
  readonly retryAfterMillis: number | undefined;
  readonly transient: boolean;

  constructor(status: number, reason: string, message: string, retryAfterMillis: number | undefined) {
    super(`the API server answered ${status} ${reason}: ${message}`);
    this.status = status;
    this.reason = reason;
    this.retryAfterMillis = retryAfterMillis;
    this.transient = status === 429 || status >= 500;
  }
}

export async function toApiError(response: Dispatcher.ResponseData): Promise<ApiError> {
  const text = await response.body.text();
  const retryAfter = Number(response.headers['retry-after']);
  const { reason, message } = parseStatus(text);
  return new ApiError(response.statusCode, reason, message, retryAfter > 0 ? retryAfter * 1000 : undefined);
}

/** Only what the server means for people; never headers, which hold credentials. */
function parseStatus(text: string): { reason: string; message: string } {
  try {
    const status: unknown = JSON.parse(text);
    if (typeof status !== 'object' || status === null) return { reason: '', message: '' };
    return {
      reason: String(Reflect.get(status, 'reason') ?? ''),
      message: String(Reflect.get(status, 'message') ?? ''),
    };
  } catch {
    return { reason: '', message: text.slice(0, 200) };
  }
}
