import { z } from 'zod';

const MAX_CHANGES = 10;

const change = z.object({ mode: z.string(), at: z.string(), reason: z.string().optional() });
const said = z.object({
  effectiveMode: z.string().optional(),
  since: z.string().optional(),
  history: z.array(change).default([]),
});

export type ModeChange = { readonly mode: string; readonly at: string; readonly reason?: string | undefined };

/** Since when the mode is in force, and the last changes, the newest first: what the status says already, or one more. */
export function withChange(status: unknown, now: ModeChange): { since: string; history: readonly ModeChange[] } {
  const parsed = said.safeParse(status ?? {});
  const { effectiveMode, since, history } = parsed.success ? parsed.data : { history: [] };
  if (effectiveMode === now.mode && since !== undefined) return { since, history };
  const { reason, ...rest } = now;
  const latest = reason === undefined ? rest : { ...rest, reason };
  return { since: now.at, history: [latest, ...history].slice(0, MAX_CHANGES) };
}
