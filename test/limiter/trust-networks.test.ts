// Which addresses are trusted, and who stands behind a chain of proxies.
import { describe, expect, it } from 'vitest';
import { addressIn, clientBehind, networksOf, PRIVATE_NETWORKS } from '../../limiter/trust.ts';

describe('the networks that are trusted if nothing is said', () => {
  const networks = networksOf(PRIVATE_NETWORKS);

  // The first and the last address of each network, and those beside them.
  it.each([
    ['127.0.0.0', '127.255.255.255', '126.255.255.255', '128.0.0.0'],
    ['10.0.0.0', '10.255.255.255', '9.255.255.255', '11.0.0.0'],
    ['172.16.0.0', '172.31.255.255', '172.15.255.255', '172.32.0.0'],
    ['192.168.0.0', '192.168.255.255', '192.167.255.255', '192.169.0.0'],
    ['100.64.0.0', '100.127.255.255', '100.63.255.255', '100.128.0.0'],
    ['169.254.0.0', '169.254.255.255', '169.253.255.255', '169.255.0.0'],
    ['::1', '::1', '::', '::2'],
    ['fc00::', 'fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'fe00::'],
    ['fe80::', 'febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'fec0::'],
  ])('have all from %s to %s, and neither %s nor %s', (first, last, before, after) => {
    expect([first, last, before, after].map((address) => networks.has(address))).toEqual([true, true, false, false]);
  });

  it('have an address as sockets print it: with the interface, or an IPv4 address as an IPv6 one', () => {
    expect(networks.has('fe80::1%eth0')).toBe(true);
    expect(networks.has('::ffff:10.0.0.1')).toBe(true);
    expect(networks.has('::ffff:8.8.8.8')).toBe(false);
  });

  it.each([undefined, '', 'localhost', '10.0.0.256', '10.0.0.1:80'])('do not have what is no address: %s', (text) => {
    expect(networks.has(text)).toBe(false);
  });
});

describe('a list of networks', () => {
  it.each(['10.0.0.0/33', 'localhost', 'fd00::/129', ''])(
    'with something else in it is refused by name: "%s"',
    (cidr) => {
      expect(() => networksOf(['10.0.0.0/8', cidr])).toThrow(`"${cidr}" is not allowed: must be a network such as`);
    },
  );

  it('that is empty has nobody', () => {
    expect(networksOf([]).has('127.0.0.1')).toBe(false);
  });
});

describe('the address in a header', () => {
  it.each([
    ['203.0.113.9', '203.0.113.9'],
    [' 203.0.113.9 ', '203.0.113.9'],
    ['203.0.113.9:4711', '203.0.113.9'],
    ['2001:db8::1', '2001:db8::1'],
    ['[2001:db8::1]', '2001:db8::1'],
    ['[2001:db8::1]:4711', '2001:db8::1'],
    ['"[2001:db8::1]:4711"', '2001:db8::1'],
    ['"203.0.113.9"', '203.0.113.9'],
    ['fe80::1%eth0', 'fe80::1'],
    ['203.0.113.9:471100', undefined],
    ['unknown', undefined],
    ['', undefined],
  ])('%s is %s', (text, address) => {
    expect(addressIn(text)).toBe(address);
  });
});

describe('the client behind a chain of proxies', () => {
  const proxies = networksOf(['10.0.0.0/8']);

  it.each<[string, string, string | undefined, string]>([
    ['who is no proxy, whatever it says', '198.51.100.1', '203.0.113.9', '198.51.100.1'],
    ['a proxy that says nothing', '10.0.0.1', undefined, '10.0.0.1'],
    ['whom the proxy names', '10.0.0.1', '203.0.113.9', '203.0.113.9'],
    ['the first from the right that is no proxy', '10.0.0.1', '192.0.2.7, 203.0.113.9, 10.0.0.2', '203.0.113.9'],
    ['the first of all, if all are proxies', '10.0.0.1', '10.0.0.3, 10.0.0.2', '10.0.0.3'],
    ['the proxy that wrote what is no address', '10.0.0.1', '192.0.2.7, unknown, 10.0.0.2', '10.0.0.2'],
    ['the proxy, if it wrote nothing', '10.0.0.1', '', '10.0.0.1'],
  ])('is %s', (_title, peer, forwardedFor, client) => {
    expect(clientBehind(peer, forwardedFor, proxies)).toBe(client);
  });
});
