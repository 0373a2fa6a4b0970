/** Every name in Redis that Sluice uses. `{…}` is the hash tag: what shares it shares a slot of Redis Cluster. */
export type Names = {
  readonly head: string;
  readonly pods: string;
  readonly changes: string;
  readonly consumerKeysMarker: string;
  readonly consumerKeysIndex: string;
  document(name: string): string;
  consumerKey(name: string): string;
  counters(partition: string, subject: string): string;
  penalty(partition: string, subject: string): string;
  /** Invalid API keys of one client in one domain, by a hash of both. */
  invalidKeys(client: string): string;
  /** The subjects above NORMAL. */
  penaltyIndex(partition: string): string;
  /** What a request was charged, by the digest of its id. */
  charge(digest: string): string;
};

/** The layouts of hashes; part of their names, so that two layouts never meet in one hash. */
const COUNTERS_LAYOUT = 'c1';
const PENALTIES_LAYOUT = 'p1';
const PENALTY_INDEX_LAYOUT = 'pi1';
const CHARGES_LAYOUT = 'r1';

export const INSTALLATION_PATTERN = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** @param installation tells installations on one Redis apart; a DNS label. */
export function createNames(installation: string): Names {
  if (!INSTALLATION_PATTERN.test(installation)) {
    throw new RangeError(`installation "${installation}" must be a DNS label: ${INSTALLATION_PATTERN.source}`);
  }
  const prefix = `sluice:${installation}`;
  return {
    head: `${prefix}:{config}:head`,
    pods: `${prefix}:{config}:pods`,
    changes: `${prefix}:changes`,
    consumerKeysMarker: `${prefix}:{keys}:complete`,
    consumerKeysIndex: `${prefix}:{keys}:index`,
    document: (name) => `${prefix}:{config}:doc:${name}`,
    consumerKey: (name) => `${prefix}:{keys}:key:${name}`,
    penalty: (partition, subject) => `${prefix}:${PENALTIES_LAYOUT}:{${partition}}:${subject}`,
    invalidKeys: (client) => `${prefix}:ip1:{${client}}`,
    penaltyIndex: (partition) => `${prefix}:${PENALTY_INDEX_LAYOUT}:{${partition}}`,
    charge: (digest) => `${prefix}:${CHARGES_LAYOUT}:{${digest}}`,
    counters: (partition, subject) => `${prefix}:${COUNTERS_LAYOUT}:{${partition}}:${subject}`,
  };
}
