import { randomUUID } from 'node:crypto';
import type { ConfigurationIdentity } from '../policy/snapshot.ts';
import { type Head, parseHead, UNREFERENCED_MILLIS } from './configuration.ts';
import type { RedisClient } from './connection.ts';
import { StoreError, toStoreError } from './errors.ts';
import type { Names } from './names.ts';
import { portionsOf } from './portions.ts';
import { integerOf, textsOf } from './reply.ts';
import { loadScript } from './script.ts';

export type PublishRequest = {
  readonly owner: string;
  /** What the publisher last read, undefined if there was no head. */
  readonly seen: Head | undefined;
  /** The new identity; `incarnation` equals that of `seen` if there was one. */
  readonly next: ConfigurationIdentity;
  /**
   * Names of documents that the new manifest needs and the old one did not. The parts of the manifest itself come first:
   * whoever has to go on after a crash finds the others by them.
   */
  readonly becoming: readonly string[];
  /** Names of documents that only the old manifest needed, its own parts first. */
  readonly leaving: readonly string[];
};

/** What a publish of many documents has still to do, or had when it was interrupted. */
export type Settling = {
  /** Besides those of the manifest in force, only documents of this one may have no time to live. */
  readonly manifest: string;
  /** As head says it: another text after each step. */
  readonly mark: string;
};

export type HeadState = { readonly head: Head | undefined; readonly settling: Settling | undefined };

/** Documents in one step: Redis answers nobody else for half a millisecond. A single edit has 6. */
export const AT_ONCE = 250;

const publishScript = loadScript('publish');

/** Head, and what is still to be done by whoever publishes next. */
export async function readHeadState(redis: RedisClient, names: Names): Promise<HeadState> {
  try {
    const fields = ['owner', 'incarnation', 'epoch', 'revision', 'manifest', 'settling'];
    const stored = (await redis.hmget(names.head, ...fields)).map((value) => value ?? '');
    const mark = stored.at(-1) ?? '';
    const [manifest = ''] = mark.split(' ');
    return { head: parseHead(stored), settling: mark === '' ? undefined : { manifest, mark } };
  } catch (error) {
    throw toStoreError(error);
  }
}

/**
 * Moves head, if the publisher may and head is what it saw, with nothing left to settle. Many documents are made
 * permanent in several steps before; what is left to do afterwards is returned, for `settle`.
 * Throws OWNED_BY_OTHER, SUPERSEDED, HEAD_MOVED or MISSING_DOCUMENT. Head has not moved then; `settling` says what has.
 */
export async function publish(
  redis: RedisClient,
  names: Names,
  request: PublishRequest,
): Promise<Settling | undefined> {
  const { owner, seen, next, becoming, leaving } = request;
  const steps = new Steps(redis, names, { ...next, revision: seen?.revision ?? NOTHING.revision, owner });
  if (becoming.length + leaving.length <= AT_ONCE) {
    await steps.take({ staying: becoming, leaving, next });
    return undefined;
  }
  for (const staying of inPortions(becoming)) await steps.take({ staying, settling: next.manifest });
  const left = leaving.length > 0 ? seen?.manifest : undefined;
  await steps.take({ next, settling: left });
  return left === undefined ? undefined : { manifest: left, mark: steps.mark };
}

/**
 * Leaves documents to expire that an unfinished publish made permanent, or should have left to expire. They are those of
 * its manifest that the one in force, `head`, does not need, the parts of the manifest first. Throws as `publish`.
 */
export async function settle(
  redis: RedisClient,
  names: Names,
  unfinished: HeadState & { readonly settling: Settling; readonly owner: string; readonly leaving: readonly string[] },
): Promise<void> {
  const { owner, head, settling, leaving } = unfinished;
  const steps = new Steps(redis, names, { ...NOTHING, ...head, owner }, settling.mark);
  // From the end: as long as anything is to be done, the manifest says what.
  for (const portion of inPortions(leaving.toReversed())) {
    await steps.take({ leaving: portion, settling: settling.manifest });
  }
  await steps.take({});
}

type Standing = Pick<ConfigurationIdentity, 'incarnation' | 'epoch' | 'revision'>;

/** What is seen where there is no head. */
const NOTHING: Standing = { incarnation: '', epoch: 0, revision: 0 };

const inPortions = (documents: readonly string[]): Iterable<string[]> => portionsOf(documents, AT_ONCE, () => 1);

type Step = {
  readonly staying?: readonly string[];
  readonly leaving?: readonly string[];
  /** What head moves to. */
  readonly next?: ConfigurationIdentity;
  /** The manifest that is not settled after this step. */
  readonly settling?: string | undefined;
};

/** Steps of which each is refused unless head is as the one before it left it. */
class Steps {
  readonly #redis: RedisClient;
  readonly #names: Names;
  readonly #seen: Standing & { readonly owner: string };
  #mark: string;

  constructor(redis: RedisClient, names: Names, seen: Standing & { readonly owner: string }, mark = '') {
    this.#redis = redis;
    this.#names = names;
    this.#seen = seen;
    this.#mark = mark;
  }

  get mark(): string {
    return this.#mark;
  }

  async take(step: Step): Promise<void> {
    const { staying = [], leaving = [], next, settling } = step;
    const { owner, epoch, incarnation, revision } = this.#seen;
    const mark = settling === undefined ? '' : `${settling} ${randomUUID()}`;
    const keys = [this.#names.head, ...[...staying, ...leaving].map((name) => this.#names.document(name))];
    const [code, detail] = textsOf(
      await publishScript.run(this.#redis, keys, [
        owner,
        epoch,
        incarnation,
        revision,
        this.#mark,
        mark,
        staying.length,
        UNREFERENCED_MILLIS,
        next?.revision ?? 0,
        next?.manifest ?? '',
        this.#names.changes,
      ]),
    );
    if (code !== '0') throw this.#refusal(code, detail, staying);
    this.#mark = mark;
  }

  #refusal(code: string | undefined, detail: string | undefined, staying: readonly string[]): StoreError {
    const { owner, epoch, revision } = this.#seen;
    switch (code) {
      case '1':
        return new StoreError('OWNED_BY_OTHER', `this Redis is configured by "${detail}", not by "${owner}"`);
      case '2':
        return new StoreError('SUPERSEDED', `an operator of epoch ${detail} took over; this one has epoch ${epoch}`);
      case '3':
        return new StoreError(
          'HEAD_MOVED',
          integerOf(detail) === revision
            ? `somebody else publishes besides head at revision ${detail}`
            : `head is at revision ${detail}, not ${revision}`,
        );
      case '4':
        return new StoreError(
          'MISSING_DOCUMENT',
          `document ${staying[integerOf(detail) - 1]} expired before it was published`,
        );
      default:
        return new StoreError('BAD_REPLY', `unknown code ${code}`);
    }
  }
}
