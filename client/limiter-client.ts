import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';

/** What a limiter may be told of a request; see POST /v1/decision/check. */
export type CheckInput = {
  readonly domain: string;
  readonly api_key?: string;
  readonly consumer?: string;
  readonly tenant?: string;
  readonly tier?: string;
  readonly ip?: string;
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly attributes?: Readonly<Record<string, string>>;
  readonly cost?: number;
  /** Keep the charge for a minute, so that it can be given back. */
  readonly refundable?: boolean;
  readonly request_id?: string;
};

/** A decision as the limiter answers it; times in seconds, null where there is nothing to say. */
export type CheckAnswer = {
  readonly action: 'ALLOW' | 'THROTTLE' | 'BLOCK';
  readonly allowed: boolean;
  readonly reason: string;
  readonly retry_after: number | null;
  readonly limit: number | null;
  readonly remaining: number | null;
  readonly reset_after: number | null;
  readonly window_seconds: number | null;
  readonly strategy: string | null;
  readonly tier: string | null;
  readonly mode: string | null;
  readonly policy: string | null;
  readonly rule: string | null;
  readonly revision: number;
  readonly request_id: string;
  /** Whether it can be given back; only when that was asked for. */
  readonly refundable?: boolean;
};

export type CheckOutcome =
  | { readonly kind: 'decided'; readonly answer: CheckAnswer }
  /** The API key is not valid. */
  | { readonly kind: 'unauthenticated' }
  /** The request is not one that can be judged: its path is broken, its tier unknown, ... */
  | { readonly kind: 'not-understood'; readonly detail: string };

/** The limiter could not be asked, or not answer. */
export class LimiterError extends Error {
  override readonly name = 'LimiterError';
  /** HTTP status of the limiter's answer; undefined if there was none. */
  readonly status: number | undefined;

  constructor(message: string, status?: number, options?: ErrorOptions) {
    super(message, options);
    this.status = status;
  }
}

export type LimiterClientOptions = {
  /** Base URLs of limiters, used in turn. */
  readonly endpoints: readonly string[];
  /** Milliseconds after which an answer is not waited for any more. */
  readonly timeoutMs: number;
};

type HttpReply = { readonly status: number; readonly text: string; readonly isLeaving: boolean };

// In turn, so that each connection soon hears from a limiter that stops that it is to be closed.
const KEPT_ALIVE = { keepAlive: true, scheduling: 'fifo' } as const;

/** How long a limiter that says that it stops is asked only when no other can be: as long as it takes to be gone. */
const LEAVING_MILLIS = 10_000;

const MAX_ANSWER_BYTES = 65_536;

const CHECK = '/v1/decision/check';
const REFUND = '/v1/decision/refund';
type Endpoint = typeof CHECK | typeof REFUND;

/** What a limiter answers while it has no configuration. */
const NOT_READY = 503;

/** Asks limiters over connections that stay open. A check is never sent twice: it would count twice. */
export class LimiterClient {
  readonly #urls: readonly Readonly<Record<Endpoint, URL>>[];
  readonly #timeoutMs: number;
  readonly #agents = { 'http:': new HttpAgent(KEPT_ALIVE), 'https:': new HttpsAgent(KEPT_ALIVE) };
  /** Until when each of the URLs is asked last; milliseconds of the monotonic clock. */
  readonly #leavingUntil: number[] = [];
  #next = 0;

  constructor(options: LimiterClientOptions) {
    if (options.endpoints.length === 0) throw new RangeError('endpoints must name at least one limiter');
    this.#urls = options.endpoints.map((endpoint) => ({
      [CHECK]: new URL(CHECK, endpoint),
      [REFUND]: new URL(REFUND, endpoint),
    }));
    this.#timeoutMs = options.timeoutMs;
  }

  /**
   * Throws LimiterError. A limiter that cannot be connected to, or that has no configuration yet, has not counted anything:
   * the next one is asked.
   */
  async check(input: CheckInput): Promise<CheckOutcome> {
    const deadline = startDeadline(this.#timeoutMs);
    try {
      return toOutcome(await this.#ask(CHECK, input, deadline.signal));
    } catch (error) {
      throw toLimiterError(error, this.#timeoutMs);
    } finally {
      deadline.cancel();
    }
  }

  /** Gives back what a refundable check was charged; false if there was nothing to give back. Throws LimiterError. */
  async refund(requestId: string): Promise<boolean> {
    const deadline = startDeadline(this.#timeoutMs);
    try {
      const { status, text } = await this.#ask(REFUND, { request_id: requestId }, deadline.signal);
      if (status === 200 || status === 404) return status === 200;
      throw new LimiterError(`the limiter answered ${status}: ${detailOf(parseJson(text))}`, status);
    } catch (error) {
      throw toLimiterError(error, this.#timeoutMs);
    } finally {
      deadline.cancel();
    }
  }

  async #ask(path: Endpoint, input: object, signal: AbortSignal): Promise<HttpReply> {
    const body = JSON.stringify(input);
    let turnedAway: { readonly error: unknown } | { readonly reply: HttpReply } = { error: undefined };
    // Taken once: other checks under way move the turn on, and each limiter must be tried by each of them.
    const first = this.#next;
    this.#next = (first + 1) % this.#urls.length;
    for (const index of this.#inTurn(first)) {
      const url = this.#urls[index]?.[path];
      if (url === undefined) break;
      try {
        const reply = await this.#post(url, body, signal);
        this.#leavingUntil[index] = reply.isLeaving ? performance.now() + LEAVING_MILLIS : 0;
        if (reply.status !== NOT_READY) return reply;
        turnedAway = { reply };
      } catch (error) {
        if (!isUnsent(error)) throw error;
        turnedAway = { error };
      }
    }
    if ('reply' in turnedAway) return turnedAway.reply;
    throw turnedAway.error;
  }

  /**
   * All limiters from one on; those that are leaving come last, as a connection to them may end at any moment: first the
   * one that said so longest ago, as it may be back.
   */
  #inTurn(first: number): number[] {
    const order = this.#urls.map((_, attempt) => (first + attempt) % this.#urls.length);
    const now = performance.now();
    const leavingUntil = (index: number): number => {
      const until = this.#leavingUntil[index] ?? 0;
      return until > now ? until : 0;
    };
    return order.toSorted((one, other) => leavingUntil(one) - leavingUntil(other));
  }

  close(): void {
    this.#agents['http:'].destroy();
    this.#agents['https:'].destroy();
  }

  #post(url: URL, body: string, signal: AbortSignal): Promise<HttpReply> {
    const isSecure = url.protocol === 'https:';
    const agent = this.#agents[isSecure ? 'https:' : 'http:'];
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    return new Promise((resolve, reject) => {
      const request = (isSecure ? httpsRequest : httpRequest)(
        url,
        { method: 'POST', agent, headers, signal },
        (response) => {
          let text = '';
          response.setEncoding('utf8');
          response.on('data', (chunk: string) => {
            text += chunk;
            if (text.length > MAX_ANSWER_BYTES) response.destroy(new Error('the answer of the limiter is too long'));
          });
          const isLeaving = response.headers.connection === 'close';
          response.once('end', () => resolve({ status: response.statusCode ?? 0, text, isLeaving }));
          response.once('error', reject);
        },
      );
      request.once('error', reject);
      request.end(body);
    });
  }
}

/**
 * Node runs timers before it reads sockets: after a stall of the event loop the timer fires although the answer is
 * already there. So the verdict waits until the sockets have been read once more.
 */
function startDeadline(millis: number): { readonly signal: AbortSignal; cancel(): void } {
  const controller = new AbortController();
  const expire = (): void => controller.abort();
  const timer = setTimeout(() => setImmediate(() => setImmediate(expire)), millis);
  return { signal: controller.signal, cancel: () => clearTimeout(timer) };
}

function toOutcome({ status, text }: HttpReply): CheckOutcome {
  if (status === 401) return { kind: 'unauthenticated' };
  const answer: unknown = parseJson(text);
  if (status === 400) return { kind: 'not-understood', detail: detailOf(answer) };
  if (status !== 200) throw new LimiterError(`the limiter answered ${status}: ${detailOf(answer)}`, status);
  if (!isAnswer(answer)) throw new LimiterError('the limiter answered something that is no decision', status);
  return { kind: 'decided', answer };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function detailOf(problem: unknown): string {
  const detail: unknown = typeof problem === 'object' && problem !== null ? Reflect.get(problem, 'detail') : undefined;
  return typeof detail === 'string' ? detail : 'no detail';
}

function isAnswer(value: unknown): value is CheckAnswer {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof Reflect.get(value, 'allowed') === 'boolean' &&
    'action' in value
  );
}

/** Whether the connection failed before anything was sent: refused, or reset while it waited to be accepted. */
function isUnsent(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && error.syscall === 'connect';
}

function toLimiterError(error: unknown, timeoutMs: number): LimiterError {
  if (error instanceof LimiterError) return error;
  const isTimeout = error instanceof Error && error.name === 'AbortError';
  const message = isTimeout
    ? `no answer from the limiter within ${timeoutMs} ms`
    : `the limiter cannot be asked: ${String(error)}`;
  return new LimiterError(message, undefined, { cause: error });
}
