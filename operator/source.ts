import type { RawResource } from '../policy/resource.ts';
import type { ResourceKind } from '../policy/schema/kinds.ts';

/**
 * What changed: the wish (spec, existence), the wish in an incident (a SystemHealth), or only what is recorded of it
 * (status).
 */
export type SourceChange = 'spec' | 'health' | 'status';

/** Where resources come from and where their status goes: a cluster, or a directory. */
export type ResourceSource = {
  /** Begins to follow; resolves at once. `onChange` is told that something changed, never what. */
  start(onChange: (change: SourceChange) => void): void;
  stop(): Promise<void>;
  /** Whether every kind has been read completely once. Before that nothing may be published. */
  hasSynced(): boolean;
  list(kind: ResourceKind): readonly RawResource[];
  /**
   * Records the status of an object; does nothing if the object is gone. `outdated`: the object changed since it was
   * listed, so nothing was recorded. Throws if it could not be recorded.
   */
  writeStatus(resource: RawResource, status: unknown): Promise<'recorded' | 'outdated'>;
};
