import { isInside, parseIP, parseNetwork } from '../policy/ip.ts';

/** Loopback, private, shared and unique local addresses: where a cluster's own pods are. */
export const PRIVATE_NETWORKS: readonly string[] = [
  '127.0.0.0/8',
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '100.64.0.0/10',
  '169.254.0.0/16',
  '::1/128',
  'fc00::/7',
  'fe80::/10',
];

/** Whether an address belongs to a list of networks. */
export type Networks = { has(address: string | undefined): boolean };

/** Networks as CIDRs. Throws RangeError that names the one which is none. */
export function networksOf(cidrs: readonly string[]): Networks {
  const networks = cidrs.map((cidr) => {
    const network = parseNetwork(cidr);
    if (network !== undefined) return network;
    throw new RangeError(`"${cidr}" is not allowed: must be a network such as 10.0.0.0/8 or fd00::/8`);
  });
  return {
    has(text) {
      const address = text === undefined ? undefined : parseIP(withoutZone(text));
      return address !== undefined && networks.some((network) => isInside(network, address));
    },
  };
}

export const isNetwork = (cidr: string): boolean => parseNetwork(cidr) !== undefined;

/** An address as sockets print it, without the interface that an IPv6 address may name. */
function withoutZone(address: string): string {
  const percent = address.indexOf('%');
  return percent === -1 ? address : address.slice(0, percent);
}

/** The text of an IP address in a header: without brackets, quotes or port; undefined if it is none. */
export function addressIn(text: string): string | undefined {
  const trimmed = text.trim().replace(/^"|"$/g, '');
  const bracketed = /^\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?$/.exec(trimmed)?.[1];
  const plain = bracketed ?? (/^\d+(?:\.\d+){3}:\d{1,5}$/.test(trimmed) ? trimmed.split(':')[0] : trimmed) ?? '';
  const address = withoutZone(plain);
  return parseIP(address) === undefined ? undefined : address;
}

/**
 * Who stands behind a chain of proxies: X-Forwarded-For read from the right, each hop believed only because the one after
 * it is trusted, up to the first that is not. An entry that is no address ends the chain: the hop that wrote it is
 * the client then.
 */
export function clientBehind(peer: string, forwardedFor: string | undefined, proxies: Networks): string {
  if (forwardedFor === undefined || !proxies.has(peer)) return peer;
  let client = peer;
  for (const hop of forwardedFor.split(',').toReversed()) {
    const address = addressIn(hop);
    if (address === undefined) break;
    client = address;
    if (!proxies.has(address)) break;
  }
  return client;
}
