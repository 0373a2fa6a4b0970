/** Eight groups of 16 bits. An IPv4 address is the IPv6 address that it is mapped to: ::ffff:203.0.113.9. */
export type IPAddress = readonly number[];

export type Network = { readonly address: IPAddress; readonly bits: number };

const GROUPS = 8;
const MAPPED: readonly number[] = [0, 0, 0, 0, 0, 0xffff];
const IPV4_OFFSET = 96;

/** Addresses of IPv6 that share so many bits are one client, where nothing else is said. */
export const IPV6_PREFIX_LENGTH = 64;

/** An address of IPv4 or IPv6, without brackets, port or zone; undefined if the text is none. */
export function parseIP(text: string): IPAddress | undefined {
  if (text.length > 45) return undefined;
  if (!text.includes(':')) {
    const low = parseDotted(text);
    return low === undefined ? undefined : [...MAPPED, ...low];
  }
  const whole = withoutDots(text);
  if (whole === undefined) return undefined;
  const halves = whole.split('::');
  if (halves.length > 2) return undefined;
  const head = groupsOf(halves[0] ?? '');
  const tail = halves.length === 2 ? groupsOf(halves[1] ?? '') : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = GROUPS - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  return [...head, ...Array<number>(missing).fill(0), ...tail];
}

/** `10.0.0.0/8` or `2001:db8::/32`; undefined if the text is no network. Bits below the prefix do not matter. */
export function parseNetwork(text: string): Network | undefined {
  const slash = text.indexOf('/');
  const address = slash === -1 ? undefined : parseIP(text.slice(0, slash));
  const length = text.slice(slash + 1);
  if (address === undefined || !/^(0|[1-9][0-9]{0,2})$/.test(length)) return undefined;
  const offset = text.includes(':') ? 0 : IPV4_OFFSET;
  const bits = offset + Number(length);
  return bits > 128 ? undefined : { address, bits };
}

export function isInside(network: Network, address: IPAddress): boolean {
  let bits = network.bits;
  for (let i = 0; bits > 0; i += 1, bits -= 16) {
    const mask = bits >= 16 ? 0xffff : (0xffff << (16 - bits)) & 0xffff;
    if (((network.address[i] ?? 0) & mask) !== ((address[i] ?? 0) & mask)) return false;
  }
  return true;
}

export function isMappedIPv4(address: IPAddress): boolean {
  return MAPPED.every((group, index) => address[index] === group);
}

/**
 * The text that stands for a client: an IPv4 address, or the network of an IPv6 address, as one customer gets a whole
 * one. With 128 bits it is the address itself.
 */
export function clientText(address: IPAddress, ipv6PrefixLength: number = IPV6_PREFIX_LENGTH): string {
  if (isMappedIPv4(address)) {
    const [high = 0, low = 0] = address.slice(6);
    return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
  }
  const kept = Math.ceil(ipv6PrefixLength / 16);
  const groups = address.slice(0, kept).map((group, index) => {
    const bits = ipv6PrefixLength - index * 16;
    return (bits >= 16 ? group : group & (0xffff << (16 - bits)) & 0xffff).toString(16);
  });
  return kept === GROUPS && ipv6PrefixLength === 128
    ? groups.join(':')
    : `${groups.join(':')}${kept === GROUPS ? '' : '::'}/${ipv6PrefixLength}`;
}

const ZERO = 48;
/** Where a dot stands among the characters, counted from zero. */
const DOT = -2;

/** Four numbers up to 255, as two groups. Every request carries addresses: a list and regular expressions cost four times as much. */
function parseDotted(text: string): [number, number] | undefined {
  let value = 0;
  let part = -1;
  let parts = 0;
  for (let i = 0; i <= text.length; i += 1) {
    const digit = i === text.length ? DOT : text.charCodeAt(i) - ZERO;
    if (digit === DOT) {
      if (part < 0) return undefined;
      value = value * 256 + part;
      parts += 1;
      part = -1;
      continue;
    }
    // Nothing follows a zero that a part begins with.
    if (digit < 0 || digit > 9 || part === 0) return undefined;
    part = part < 0 ? digit : part * 10 + digit;
    if (part > 255) return undefined;
  }
  return parts === 4 ? [Math.floor(value / 65_536), value % 65_536] : undefined;
}

/** `::ffff:1.2.3.4` as `::ffff:102:304`. */
function withoutDots(text: string): string | undefined {
  if (!text.includes('.')) return text;
  const start = text.lastIndexOf(':') + 1;
  const low = parseDotted(text.slice(start));
  return low === undefined ? undefined : `${text.slice(0, start)}${low.map((group) => group.toString(16)).join(':')}`;
}

function groupsOf(text: string): number[] | undefined {
  if (text === '') return [];
  const groups = text.split(':');
  return groups.every((group) => /^[0-9A-Fa-f]{1,4}$/.test(group))
    ? groups.map((group) => Number.parseInt(group, 16))
    : undefined;
}
