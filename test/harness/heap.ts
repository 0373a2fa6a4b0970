import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collect: unknown = runInNewContext('gc');

/** Bytes in use on the heap and in buffers, after everything unreachable was collected. */
export function bytesInUse(): number {
  if (typeof collect !== 'function') throw new Error('there is no gc to call');
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
