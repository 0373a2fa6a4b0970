import type { Response } from 'express';
import type { HttpAnswer } from '../http/answer.ts';

/** The id of the request that this answers. */
export const idOf = (response: Response): string => String(response.locals['requestId']);

export function send(response: Response, { status, headers, body }: HttpAnswer): void {
  response.status(status).set(headers).send(body);
}
