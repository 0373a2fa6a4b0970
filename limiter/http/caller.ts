import type { Socket } from 'node:net';
import type { DoorParts } from '../door.ts';
import { addressIn } from '../trust.ts';
import type { HttpRequest } from './http-request.ts';
import type { Caller } from './request.ts';

/** A connection comes from one address, and serves one door: what that means is found out once. */
const callers = new WeakMap<Socket, Caller>();

/** Who is at the other end of the connection, and whether its words are believed. */
export function callerOf(parts: Pick<DoorParts, 'trustedCallers'>, { socket }: HttpRequest): Caller {
  const known = callers.get(socket);
  if (known !== undefined) return known;
  const peerIP = addressIn(socket.remoteAddress ?? '');
  const caller = { peerIP, isTrusted: parts.trustedCallers.has(peerIP) };
  callers.set(socket, caller);
  return caller;
}
