import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { clientText, isInside, parseIP, parseNetwork } from '../../policy/ip.ts';

const canonicalIP = (text: string, ipv6PrefixLength?: number): string | undefined => {
  const address = parseIP(text);
  return address === undefined ? undefined : clientText(address, ipv6PrefixLength);
};

describe('the text that stands for a client', () => {
  it.each([
    ['an IPv4 address is itself', '203.0.113.9', '203.0.113.9'],
    ['zero', '0.0.0.0', '0.0.0.0'],
    ['the highest', '255.255.255.255', '255.255.255.255'],
    ['a mapped address is its IPv4 address', '::ffff:203.0.113.9', '203.0.113.9'],
    ['in any case', '::FFFF:203.0.113.9', '203.0.113.9'],
    ['in hexadecimal', '::ffff:cb00:7109', '203.0.113.9'],
    ['in full', '0:0:0:0:0:ffff:203.0.113.9', '203.0.113.9'],
    ['an IPv6 address is its /64', '2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['whatever the host part', '2001:db8:1:2:ffff:ffff:ffff:ffff', '2001:db8:1:2::/64'],
    ['written with leading zeros', '2001:0db8:0001:0002:0000:0000:0000:0001', '2001:db8:1:2::/64'],
    ['in upper case', '2001:DB8:1:2::A', '2001:db8:1:2::/64'],
    ['compressed in the host part', '2001:db8:1:2::1', '2001:db8:1:2::/64'],
    ['compressed across the boundary', '2001:db8::1', '2001:db8:0:0::/64'],
    ['compressed in the network part', '2001::5:1:2:3:4', '2001:0:0:5::/64'],
    ['compressed at the beginning', '::1', '0:0:0:0::/64'],
    ['compressed at the end', '2001:db8:1::', '2001:db8:1:0::/64'],
    ['nothing but zeros', '::', '0:0:0:0::/64'],
    ['with an IPv4 address at the end that is not mapped', '64:ff9b::203.0.113.9', '64:ff9b:0:0::/64'],
    ['one that only looks mapped', '::1:ffff:203.0.113.9', '0:0:0:0::/64'],
  ])('%s: %s', (_title, text, expected) => {
    expect(canonicalIP(text)).toBe(expected);
  });

  it.each([
    '',
    ' ',
    '203.0.113',
    '203.0.113.256',
    '203.0.113.09',
    '203.0.113.9 ',
    '203.0.113.9:443',
    '[2001:db8::1]',
    '2001:db8::1/64',
    '2001:db8:::1',
    '2001:db8::1::2',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    'fe80::1%eth0',
    '::ffff:203.0.113.256',
    'localhost',
    'unknown',
  ])('is not had from "%s"', (text) => {
    expect(canonicalIP(text)).toBeUndefined();
  });

  it('is one for every way to write one address, and another for the next network', () => {
    const ways = ['2001:db8::2:0:0:0:1', '2001:db8:0:2::1', '2001:0DB8:0:0002::0001'];
    expect(new Set(ways.map((text) => canonicalIP(text))).size).toBe(1);
    expect(canonicalIP('2001:db8:0:1::1')).not.toBe(canonicalIP('2001:db8::1'));
  });
});

describe('the network that is one client', () => {
  it.each([
    [32, '2001:db8::/32'],
    [48, '2001:db8:ffff::/48'],
    [52, '2001:db8:ffff:f000::/52'],
    [56, '2001:db8:ffff:ff00::/56'],
    [64, '2001:db8:ffff:ffff::/64'],
    [96, '2001:db8:ffff:ffff:1:2::/96'],
    [120, '2001:db8:ffff:ffff:1:2:3:ab00/120'],
    [128, '2001:db8:ffff:ffff:1:2:3:abcd'],
  ])('of %i bits', (bits, expected) => {
    expect(canonicalIP('2001:db8:ffff:ffff:1:2:3:abcd', bits)).toBe(expected);
  });

  it('is the address itself for IPv4', () => {
    expect(canonicalIP('203.0.113.9', 32)).toBe('203.0.113.9');
    expect(canonicalIP('::ffff:203.0.113.9', 32)).toBe('203.0.113.9');
  });
});

describe('a network', () => {
  const isIn = (network: string, address: string): boolean | undefined => {
    const parsed = { network: parseNetwork(network), address: parseIP(address) };
    return parsed.network && parsed.address && isInside(parsed.network, parsed.address);
  };

  it.each([
    ['10.0.0.0/8', '10.255.255.255', true],
    ['10.0.0.0/8', '11.0.0.0', false],
    ['10.0.0.0/8', '::ffff:10.1.2.3', true],
    ['203.0.113.9/32', '203.0.113.9', true],
    ['203.0.113.9/32', '203.0.113.8', false],
    ['203.0.113.77/24', '203.0.113.1', true],
    ['0.0.0.0/0', '255.1.2.3', true],
    ['0.0.0.0/0', '2001:db8::1', false],
    ['::/0', '203.0.113.9', true],
    ['2001:db8::/32', '2001:db8:ffff::1', true],
    ['2001:db8::/33', '2001:db8:8000::1', false],
    ['2001:db8::/33', '2001:db8:7fff::1', true],
    ['2001:db8::1/128', '2001:db8::2', false],
    ['::ffff:10.0.0.0/104', '10.9.9.9', true],
  ])('%s holds %s: %s', (network, address, expected) => {
    expect(isIn(network, address)).toBe(expected);
  });

  it.each(['10.0.0.0', '10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/08', '10.0.0/8', '2001:db8::/129', '/8', 'x/8', '::/'])(
    'is not had from "%s"',
    (text) => {
      expect(parseNetwork(text)).toBeUndefined();
    },
  );
});

describe('an IPv4 address', () => {
  const part = fc.constantFrom(
    '0',
    '1',
    '9',
    '10',
    '99',
    '255',
    '256',
    '999',
    '00',
    '01',
    '010',
    '',
    'x',
    '1x',
    '-1',
    ' 1',
  );
  const texts = fc.oneof(
    fc.array(part, { minLength: 3, maxLength: 5 }).map((parts) => parts.join('.')),
    fc.ipV4(),
    fc.string({ unit: fc.constantFrom('0', '1', '2', '9', '.'), maxLength: 15 }),
  );

  it('is four numbers from 0 to 255 between dots, none of which begins with a zero', () => {
    fc.assert(
      fc.property(texts, (text) => {
        const parts = text.split('.');
        const isOne =
          parts.length === 4 && parts.every((one) => /^(0|[1-9][0-9]{0,2})$/.test(one) && Number(one) <= 255);
        const [a = 0, b = 0, c = 0, d = 0] = parts.map(Number);
        const address = [0, 0, 0, 0, 0, 0xffff, a * 256 + b, c * 256 + d];
        expect(parseIP(text)).toEqual(isOne ? address : undefined);
      }),
      { numRuns: 2_000 },
    );
  });
});
