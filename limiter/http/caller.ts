import type { IncomingMessage } from 'node:http';
import type { DoorParts } from '../door.ts';
import { addressIn } from '../trust.ts';
import type { Caller } from './request.ts';

/** Who is at the other end of the connection, and whether its words are believed. */
export function callerOf(parts: Pick<DoorParts, 'trustedCallers'>, request: IncomingMessage): Caller {
  const peerIP = addressIn(request.socket.remoteAddress ?? '');
  return { peerIP, isTrusted: parts.trustedCallers.has(peerIP) };
}
