/**
 * What can go wrong with the store.
 *
 * - UNAVAILABLE: no connection, or it broke; the outcome of a call under way is unknown
 * - TIMEOUT: no answer in time; the call may have been executed
 * - OVERLOADED: too many calls under way; this one was not sent
 * - BREAKER_OPEN: Redis failed too often just now; this call was not sent
 * - REFUSED: Redis refused before executing (OOM, READONLY, NOREPLICAS, LOADING, BUSY, NOAUTH, ...)
 * - WRONG_TYPE: a key of ours holds something else
 * - BAD_REPLY: a reply that the script never gives
 * - OWNED_BY_OTHER: another installation publishes here
 * - SUPERSEDED: an operator of a higher epoch published here
 * - HEAD_MOVED: head is not what it was when last read
 * - MISSING_DOCUMENT: a document that is referred to is not there
 */
export type StoreErrorCode =
  | 'UNAVAILABLE'
  | 'TIMEOUT'
  | 'OVERLOADED'
  | 'BREAKER_OPEN'
  | 'REFUSED'
  | 'WRONG_TYPE'
  | 'BAD_REPLY'
  | 'OWNED_BY_OTHER'
  | 'SUPERSEDED'
  | 'HEAD_MOVED'
  | 'MISSING_DOCUMENT';

const TRANSIENT: ReadonlySet<StoreErrorCode> = new Set([
  'UNAVAILABLE',
  'TIMEOUT',
  'OVERLOADED',
  'BREAKER_OPEN',
  'REFUSED',
  'HEAD_MOVED',
  'MISSING_DOCUMENT',
]);

/** The word with which Redis refuses. Clients can bring about OOM, by being many. */
const REFUSALS = [
  'OOM',
  'READONLY',
  'NOREPLICAS',
  'LOADING',
  'BUSY',
  'NOAUTH',
  'NOPERM',
  'WRONGPASS',
  'MASTERDOWN',
  'CLUSTERDOWN',
  'TRYAGAIN',
  'MISCONF',
] as const;
export type Refusal = (typeof REFUSALS)[number];

export class StoreError extends Error {
  override readonly name = 'StoreError';
  readonly code: StoreErrorCode;
  /** Whether trying again later can help without anyone changing anything. */
  readonly transient: boolean;
  /** Why Redis refused, if it did. */
  readonly refusal: Refusal | undefined;

  constructor(code: StoreErrorCode, message: string, refusal?: Refusal) {
    super(message);
    this.code = code;
    this.refusal = refusal;
    this.transient = TRANSIENT.has(code);
  }
}

/** What the client library says when it is not connected. */
const NOT_CONNECTED = /^(Stream isn't writeable|Connection is closed)/;

/** Any failure of a call to Redis as a StoreError. */
export function toStoreError(cause: unknown): StoreError {
  if (cause instanceof StoreError) return cause;
  const message = cause instanceof Error ? cause.message : String(cause);
  const refusal = REFUSALS.find((word) => message === word || message.startsWith(`${word} `));
  if (refusal !== undefined) return new StoreError('REFUSED', message, refusal);
  if (message.startsWith('WRONGTYPE')) return new StoreError('WRONG_TYPE', message);
  return new StoreError(
    'UNAVAILABLE',
    message === '' || NOT_CONNECTED.test(message) ? 'there is no connection to Redis' : message,
  );
}
