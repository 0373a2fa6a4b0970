import { z } from 'zod';

const lease = z.object({
  metadata: z.object({ resourceVersion: z.string() }),
  spec: z
    .object({
      holderIdentity: z.string().nullish(),
      leaseTransitions: z.int().nullish(),
      acquireTime: z.string().nullish(),
      renewTime: z.string().nullish(),
    })
    .nullish(),
});

/** A Lease as far as we read and write it. An empty holder has released it. */
export type LeaseRecord = {
  readonly resourceVersion: string;
  readonly holder: string;
  readonly transitions: number;
  readonly acquireTime: string;
  readonly renewTime: string;
};

export function parseLease(value: unknown): LeaseRecord {
  const { metadata, spec } = lease.parse(value);
  return {
    resourceVersion: metadata.resourceVersion,
    holder: spec?.holderIdentity ?? '',
    transitions: spec?.leaseTransitions ?? 0,
    acquireTime: spec?.acquireTime ?? '',
    renewTime: spec?.renewTime ?? '',
  };
}

export type LeaseName = { readonly namespace: string; readonly name: string };

/** The object to write. Without a resourceVersion it is to be created; with one it replaces exactly that version. */
export function toLease(
  { namespace, name }: LeaseName,
  record: Omit<LeaseRecord, 'resourceVersion'> & { readonly resourceVersion?: string },
  durationSeconds: number,
): object {
  const { resourceVersion, holder, transitions, acquireTime, renewTime } = record;
  return {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { namespace, name, ...(resourceVersion === undefined ? {} : { resourceVersion }) },
    spec: {
      holderIdentity: holder,
      leaseDurationSeconds: durationSeconds,
      leaseTransitions: transitions,
      acquireTime,
      renewTime,
    },
  };
}

/** The API server wants exactly six digits after the second. */
export function microTime(date: Date): string {
  return date.toISOString().replace('Z', '000Z');
}
