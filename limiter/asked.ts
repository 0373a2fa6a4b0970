import { type Checker, type CheckRequest, type CheckResult, type CheckTrace, UnknownTier } from './check.ts';
import type { Charges } from './refunds.ts';
import type { Snapshot } from '../policy/snapshot.ts';
import { normalisePath } from '../policy/path.ts';

/** What a door asks of the engine: a request as that door understood it, in one form for all doors. */
export type Asked = CheckRequest & {
  /** The id under which the charge can be given back; only when that was asked for. */
  readonly refundId: string | undefined;
};

export type AskedResult = CheckResult & {
  /** Whether the charge can be given back under the refund id; left out where that was not asked for. */
  readonly isRefundable?: boolean | undefined;
};

/** The engine as the doors see it. Throws UnknownTier. */
export type Engine = { check(snapshot: Snapshot, asked: Asked): Promise<AskedResult> };

/** Something that the client sent cannot be judged: the request is refused, whichever door it came through. */
export class NotUnderstood extends Error {
  override readonly name = 'NotUnderstood';
  readonly transient = false;
  readonly code: 'BAD_PATH' | 'BAD_ADDRESS' | 'BAD_VALUE' | 'UNKNOWN_TIER';

  constructor(code: NotUnderstood['code'], message: string) {
    super(message);
    this.code = code;
  }
}

/** The one form of a path; throws NotUnderstood. */
export function understoodPath(text: string): string {
  const path = normalisePath(text);
  if (path !== undefined) return path;
  throw new NotUnderstood(
    'BAD_PATH',
    'the path must begin with "/", have at most 8192 characters and no broken escape',
  );
}

/** A host as policies name it: in lower case, without a port. */
export const hostOf = (text: string): string => text.toLowerCase().replace(/:[0-9]{1,5}$/, '');

export { UnknownTier };

/** The engine over a checker; charges that may be given back are remembered. */
export function engineOf(checker: Checker, charges: Charges): Engine {
  return {
    // Hardly a request is refundable: the others do not pay for another promise and a copy.
    check: (snapshot, asked) =>
      asked.refundId === undefined
        ? checker.check(snapshot, asked)
        : checkRefundable(checker, charges, snapshot, { asked, refundId: asked.refundId }),
  };
}

async function checkRefundable(
  checker: Checker,
  charges: Charges,
  snapshot: Snapshot,
  { asked, refundId }: { readonly asked: Asked; readonly refundId: string },
): Promise<AskedResult> {
  const trace: CheckTrace = { onRule: () => undefined };
  const result = await checker.check(snapshot, asked, trace);
  const isAllowed = result.decision.action === 'ALLOW' && !asked.isPeek;
  return { ...result, isRefundable: isAllowed && (await charges.remember(refundId, trace)) };
}
