import { describe, expect, it } from 'vitest';
import { canonicalIP } from '../../limiter/client-ip.ts';

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
    expect(new Set(ways.map(canonicalIP)).size).toBe(1);
    expect(canonicalIP('2001:db8:0:1::1')).not.toBe(canonicalIP('2001:db8::1'));
  });
});
