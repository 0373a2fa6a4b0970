import { DatabaseSync } from 'node:sqlite';
import { setTimeout as pause } from 'node:timers/promises';

const SQLITE_BUSY = 5;
const ASK_AGAIN_MILLIS = 200;

/**
 * Runs `work` while no other process does so under the same file; `onWait` is told once if that has to be waited for.
 * An SQLite transaction is the lock because the system frees it with the process that holds it, however that ends:
 * there is no stale lock to recognise. The file stays, empty.
 */
export async function withLock<T>(file: string, onWait: () => void, work: () => Promise<T>): Promise<T> {
  const database = new DatabaseSync(file);
  try {
    let isWaiting = false;
    while (!tryLock(database)) {
      if (!isWaiting) onWait();
      isWaiting = true;
      await pause(ASK_AGAIN_MILLIS);
    }
    return await work();
  } finally {
    database.close();
  }
}

function tryLock(database: DatabaseSync): boolean {
  try {
    database.exec('BEGIN EXCLUSIVE');
    return true;
  } catch (error) {
    if (error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY) return false;
    throw error;
  }
}
