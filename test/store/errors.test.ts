import { describe, expect, it } from 'vitest';
import { StoreError, type StoreErrorCode, toStoreError } from '../../store/errors.ts';

describe('any failure becomes a StoreError', () => {
  it.each<[string, StoreErrorCode]>([
    ['OOM command not allowed', 'REFUSED'],
    ['READONLY You cannot write against a read only replica.', 'REFUSED'],
    ["MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", 'REFUSED'],
    ['LOADING Redis is loading the dataset in memory', 'REFUSED'],
    ['MISCONF Redis is configured to save RDB snapshots', 'REFUSED'],
    ['CLUSTERDOWN The cluster is down', 'REFUSED'],
    ['TRYAGAIN Multiple keys request during rehashing of slot', 'REFUSED'],
    ['WRONGPASS invalid username-password pair', 'REFUSED'],
    ['WRONGTYPE Operation against a key holding the wrong kind of value', 'WRONG_TYPE'],
    ['OOMPH is a word of its own', 'UNAVAILABLE'],
    ['Connection is closed.', 'UNAVAILABLE'],
    ["Stream isn't writeable and enableOfflineQueue options is false", 'UNAVAILABLE'],
    ['read ECONNRESET', 'UNAVAILABLE'],
  ])('"%s" is %s', (message, code) => {
    expect(toStoreError(new Error(message))).toMatchObject({ code });
  });

  it('and one that is none is kept as it is', () => {
    const error = new StoreError('HEAD_MOVED', 'moved');
    expect(toStoreError(error)).toBe(error);
  });

  it('and what is no error at all is shown', () => {
    expect(toStoreError('text')).toMatchObject({ code: 'UNAVAILABLE', message: 'text' });
  });

  it.each<[StoreErrorCode, boolean]>([
    ['UNAVAILABLE', true],
    ['TIMEOUT', true],
    ['OVERLOADED', true],
    ['BREAKER_OPEN', true],
    ['REFUSED', true],
    ['HEAD_MOVED', true],
    ['MISSING_DOCUMENT', true],
    ['WRONG_TYPE', false],
    ['BAD_REPLY', false],
    ['OWNED_BY_OTHER', false],
    ['SUPERSEDED', false],
  ])('whether %s may pass by itself: %s', (code, transient) => {
    expect(new StoreError(code, 'message')).toMatchObject({ code, transient, message: 'message' });
  });
});
