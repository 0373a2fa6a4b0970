import { connect, disconnect, type RedisClient } from './connection.ts';
import type { Names } from './names.ts';

/** What is announced on the channel: that something of this kind changed. What exactly is read, never believed. */
export type Change = 'head' | 'ack' | 'key' | 'pardon';

export type Subscription = { close(): void };

/** `detail` is what follows the kind, undefined if anything of this kind may have changed. */
type OnChange = (change: Change, detail?: string) => void;

/**
 * Tells of changes as they are announced. Announcements can be lost, so whoever needs them also polls; `onChange` is
 * called for every kind when the subscription begins and after each reconnect, because something may have been missed.
 */
export function subscribeToChanges(
  url: string,
  names: Names,
  kinds: readonly Change[],
  onChange: OnChange,
): Subscription {
  const redis: RedisClient = connect(url, {
    onDown: () => undefined,
    onReady: () => {
      redis.subscribe(names.changes).then(
        () => kinds.forEach((kind) => onChange(kind)),
        () => undefined,
      );
    },
  });
  redis.on('message', (_channel: string, message: string) => {
    const kind = kinds.find((candidate) => message.startsWith(`${candidate} `));
    if (kind !== undefined) onChange(kind, message.slice(kind.length + 1));
  });
  return { close: () => disconnect(redis) };
}
