import type { Figures } from '../figures.ts';
import type { Rig } from '../rig.ts';

/** One thing that is measured. */
export type Target = {
  readonly name: string;
  readonly about: string;
  /** Before anything is measured: starts what it needs, and shows that it does the work that it is measured for. */
  prepare?(rig: Rig): Promise<void>;
  /** Discarded, and once for each scenario; default: a turn. Throws Unmeasurable. */
  warmUp?(rig: Rig): Promise<unknown>;
  /** One turn of about a second. Throws Unmeasurable. */
  measure(rig: Rig): Promise<Figures>;
};
