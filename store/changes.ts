import type { Redis } from 'ioredis';
import { connect, disconnect } from './connection.ts';
import type { Names } from './names.ts';

/** What is announced on the channel: that something of this kind changed. What exactly is read, never believed. */
export type Change = 'head' | 'ack' | 'key';

export type Subscription = { close(): void };

/**
 * Tells of changes as they are announced. Announcements can be lost, so whoever needs them also polls; `onChange` is
 * called for every kind when the subscription begins and after each reconnect, because something may have been missed.
 */
export function subscribeToChanges(
  url: string,
  names: Names,
  kinds: readonly Change[],
  onChange: (change: Change) => void,
): Subscription {
  const redis: Redis = connect(url, {
    onDown: () => undefined,
    onReady: () => {
      redis.subscribe(names.changes).then(
        () => kinds.forEach(onChange),
        () => undefined,
      );
    },
  });
  redis.on('message', (_channel: string, message: string) => {
    const kind = kinds.find((candidate) => message.startsWith(`${candidate} `));
    if (kind !== undefined) onChange(kind);
  });
  return { close: () => disconnect(redis) };
}
