type LimiterPorts = { readonly http: number; readonly grpc: number; readonly ops: number };

export type DevPorts = {
  readonly base: number;
  readonly demo: number;
  readonly limiters: readonly [LimiterPorts, LimiterPorts];
  readonly redis: number;
};

/** The highest port without a base; every port must stay below 65,536. */
const HIGHEST = 16_379;

/** The ports of `sluice dev`, each moved up by PORT_BASE, so that two can run side by side. Throws RangeError. */
export function portsFrom(portBase: string | undefined): DevPorts {
  const base = portBase === undefined || portBase === '' ? 0 : Number(portBase);
  if (!Number.isInteger(base) || base < 0 || base + HIGHEST > 65_535) {
    throw new RangeError(
      `PORT_BASE "${portBase}" is not allowed: must be a whole number from 0 to ${65_535 - HIGHEST}`,
    );
  }
  return {
    base,
    demo: base + 3_000,
    limiters: [
      { http: base + 8_080, grpc: base + 8_081, ops: base + 9_090 },
      { http: base + 8_180, grpc: base + 8_181, ops: base + 9_190 },
    ],
    // Not the usual 6379: that may be somebody else's.
    redis: base + HIGHEST,
  };
}
