import { LRUCache } from 'lru-cache';
import { hashOfKey, isPossibleKey, MAX_API_KEY_LENGTH, recordNameOf } from '../policy/api-key.ts';
import type { NegotiatedLimits } from '../policy/selection.ts';
import { admitsNamespace, type DomainIndex } from '../policy/snapshot.ts';
import type { KeyLookup } from '../store/consumer-keys.ts';
import type { CheckRequest } from './check.ts';
import type { KeyCache } from './key-cache.ts';

export type IdentitySource = 'ApiKey' | 'Header' | 'Caller' | 'ClientIP';

export type Identity = {
  /** With its source; undefined if nothing says who it is. */
  readonly consumer: string | undefined;
  readonly source: IdentitySource | undefined;
  readonly tier: string | undefined;
  readonly tenant: string | undefined;
  readonly negotiated: readonly NegotiatedLimits[] | undefined;
};

/**
 * What is known of who calls: an identity, that the key is not valid, that an identity is required and missing, or that
 * it cannot be known now.
 */
export type Identification =
  | ({ readonly kind: 'identified' } & Identity)
  | { readonly kind: 'invalid' }
  | { readonly kind: 'missing' }
  | ({ readonly kind: 'unavailable' } & Identity);

export type IdentifierParts = {
  readonly keys: Pick<KeyCache, 'lookUp'>;
  /** The first names new records; records under the others are found too, while a pepper is being replaced. */
  readonly peppers: readonly string[];
};

const INVALID: Identification = { kind: 'invalid' };
const MISSING: Identification = { kind: 'missing' };
const UNKNOWN_KEY: KeyLookup = { kind: 'unknown' };
const MAX_HEADER_LENGTH = 256;
/** Keys whose records' names are at hand: about 5 MiB. */
const MAX_NAMED_KEYS = 20_000;

/** The request as far as identity asks about it; `clientIP` is the text by which the domain counts it. */
export type Claim = {
  readonly request: CheckRequest;
  readonly domain: DomainIndex;
  readonly clientIP: string | undefined;
};

/** Who calls, by the sources of the domain in their order. */
export class Identifier {
  readonly #parts: IdentifierParts;
  /**
   * Names of records, by the hash of a key that was found: checksum and HMAC cost more than all else about a key. Those of
   * made-up keys are never here, or they would drive out the others.
   */
  readonly #names = new LRUCache<string, readonly string[]>({ max: MAX_NAMED_KEYS });

  constructor(parts: IdentifierParts) {
    this.#parts = parts;
  }

  /** Answers at once unless Redis has to be asked about a key; never rejects. */
  identify(claim: Claim): Identification | Promise<Identification> {
    return this.#from(0, claim);
  }

  #from(first: number, claim: Claim): Identification | Promise<Identification> {
    const { request, domain, clientIP } = claim;
    const { sources, onMissing } = domain.settings;
    for (let i = first; i < sources.length; i += 1) {
      const source = sources[i];
      if (source?.type === 'ApiKey') {
        const key = keyOf(request, source.name ?? '');
        if (key === undefined) continue;
        const lookup = this.#lookUp(key);
        return lookup instanceof Promise
          ? lookup.then((answer) => this.#afterKey(answer, i, claim))
          : this.#afterKey(lookup, i, claim);
      }
      const consumer = source === undefined ? undefined : consumerBy(source, claim);
      if (consumer !== undefined) return identified(consumer, source?.type);
    }
    switch (onMissing) {
      case 'Deny':
        return MISSING;
      case 'SkipRule':
        return identified(undefined, undefined);
      case 'ClientIP':
        return identified(clientIP === undefined ? undefined : `ip:${clientIP}`, 'ClientIP');
    }
  }

  #afterKey(lookup: KeyLookup, index: number, claim: Claim): Identification | Promise<Identification> {
    const { settings } = claim.domain;
    switch (lookup.kind) {
      case 'found': {
        const { record } = lookup;
        if (record.isDisabled === true || !admitsNamespace(settings, record.namespace)) break;
        const { tier, tenant, limits } = record;
        const consumer = `key:${record.consumer}`;
        return { kind: 'identified', consumer, source: 'ApiKey', tier, tenant, negotiated: limits };
      }
      case 'unavailable': {
        // One key is one client, whoever it is.
        const consumer = `unresolved:${hashOfKey(keyOf(claim.request, settings.sources[index]?.name ?? '') ?? '')}`;
        return { ...identified(consumer, 'ApiKey'), kind: 'unavailable' };
      }
      case 'unknown':
        break;
    }
    return settings.onInvalidKey === 'Anonymous' ? this.#from(index + 1, claim) : INVALID;
  }

  #lookUp(key: string): KeyLookup | Promise<KeyLookup> {
    if (key.length > MAX_API_KEY_LENGTH) return UNKNOWN_KEY;
    const hash = hashOfKey(key);
    const known = this.#names.get(hash);
    if (known !== undefined) return this.#lookUpAny(known);
    if (!isPossibleKey(key)) return UNKNOWN_KEY;
    const names = this.#parts.peppers.map((pepper) => recordNameOf(pepper, hash));
    const lookup = this.#lookUpAny(names);
    if (!(lookup instanceof Promise) && lookup.kind === 'found') this.#names.set(hash, names);
    return lookup;
  }

  #lookUpAny(names: readonly string[]): KeyLookup | Promise<KeyLookup> {
    const [name = ''] = names;
    return names.length === 1 ? this.#parts.keys.lookUp(name) : this.#lookUpAll(names);
  }

  /** A key is unknown only if it is so under every pepper. */
  async #lookUpAll(names: readonly string[]): Promise<KeyLookup> {
    const answers = await Promise.all(names.map(async (name) => this.#parts.keys.lookUp(name)));
    return (
      answers.find(({ kind }) => kind === 'found') ?? answers.find(({ kind }) => kind === 'unavailable') ?? UNKNOWN_KEY
    );
  }
}

/** The key as a field of the request, or in the header that the domain names. */
function keyOf({ apiKey, context }: CheckRequest, header: string): string | undefined {
  const key = apiKey ?? context.headers?.get(header);
  if (key === undefined || key === '') return undefined;
  return header === 'authorization' ? key.replace(/^Bearer +/i, '') : key;
}

/** Words of the caller are believed from trusted callers only. */
function consumerBy(
  source: { readonly type: IdentitySource; readonly name?: string | undefined },
  { request, clientIP }: Claim,
): string | undefined {
  switch (source.type) {
    case 'ApiKey':
      return undefined;
    case 'Header': {
      const value = request.isTrusted ? request.context.headers?.get(source.name ?? '') : undefined;
      return value === undefined || value === '' || value.length > MAX_HEADER_LENGTH ? undefined : `header:${value}`;
    }
    case 'Caller':
      return request.isTrusted && request.consumer !== undefined ? `caller:${request.consumer}` : undefined;
    case 'ClientIP':
      return clientIP === undefined ? undefined : `ip:${clientIP}`;
  }
}

function identified(
  consumer: string | undefined,
  source: IdentitySource | undefined,
): { readonly kind: 'identified' } & Identity {
  return { kind: 'identified', consumer, source, tier: undefined, tenant: undefined, negotiated: undefined };
}
