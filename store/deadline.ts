import { StoreError } from './errors.ts';

/**
 * The result of a call to Redis, or TIMEOUT if it does not come in time; what comes later is nobody's.
 *
 * Node runs timers before it reads sockets: after a stall of the event loop the timer fires although the reply is
 * already there. So the verdict waits until the sockets have been read once more.
 */
export async function within<T>(millis: number, running: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const passed = new Promise<never>((_resolve, reject) => {
    const expire = (): void => reject(new StoreError('TIMEOUT', `no answer from Redis within ${millis} ms`));
    timer = setTimeout(() => setImmediate(() => setImmediate(expire)), millis);
  });
  try {
    return await Promise.race([running, passed]);
  } finally {
    clearTimeout(timer);
  }
}
