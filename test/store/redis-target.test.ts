import { describe, expect, it } from 'vitest';
import { parseRedisUrl } from '../../store/redis-target.ts';

const NOBODY = { username: undefined, password: undefined };

describe('where Redis is', () => {
  it.each(['redis://127.0.0.1:6379', 'rediss://user:secret@redis.example/2'])('is one server: %s', (url) => {
    expect(parseRedisUrl(url)).toEqual({ kind: 'single', url });
  });

  it('is the primary that Sentinels name', () => {
    expect(parseRedisUrl('redis+sentinel://a:1,b,[2001:db8::1]:26380/main')).toEqual({
      kind: 'sentinel',
      primary: 'main',
      nodes: [
        { host: 'a', port: 1 },
        { host: 'b', port: 26_379 },
        { host: '2001:db8::1', port: 26_380 },
      ],
      ...NOBODY,
      db: 0,
      isEncrypted: false,
    });
    expect(parseRedisUrl('rediss+sentinel://us%40er:p%3Ass@a/main/3')).toMatchObject({
      username: 'us@er',
      password: 'p:ss',
      db: 3,
      isEncrypted: true,
    });
  });

  it('is a Cluster, of which some nodes are named', () => {
    expect(parseRedisUrl('redis+cluster://:secret@a,b:7000')).toEqual({
      kind: 'cluster',
      nodes: [
        { host: 'a', port: 6_379 },
        { host: 'b', port: 7_000 },
      ],
      username: undefined,
      password: 'secret',
      db: 0,
      isEncrypted: false,
    });
  });

  it.each([
    '',
    'http://a',
    'redis:/a',
    'redis+other://a',
    'redis+sentinel://a',
    'redis+sentinel://a/ma in',
    'redis+sentinel://a/main/x',
    'redis+sentinel://a/main/0/more',
    'redis+cluster://a/1',
    'redis+cluster://a:0',
    'redis+cluster://a:65536',
    'redis+cluster://a,,b',
    'redis+cluster://a b',
    'redis+cluster://%zz@a',
  ])('is not said by "%s"', (url) => {
    expect(parseRedisUrl(url)).toBeUndefined();
  });
});
