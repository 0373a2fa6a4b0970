import type { RequestHandler } from 'express';
import { problemAnswer } from '../http/answer.ts';
import { addressIn, type Networks } from '../trust.ts';
import { idOf, send } from './answers.ts';

/** What everybody may ask who reaches the port: kubelets and Prometheus do. All else is for operators. */
const OPEN: ReadonlySet<string> = new Set(['/livez', '/readyz', '/metrics']);

/**
 * Turns away who is not in one of these networks. Only the address of the connection counts, and `kubectl port-forward`
 * comes from inside the pod.
 */
export function admitOperators(allowed: Networks): RequestHandler {
  return (request, response, next) => {
    const peer = addressIn(request.socket.remoteAddress ?? '');
    if (OPEN.has(request.path) || allowed.has(peer)) {
      next();
      return;
    }
    const detail = `${peer ?? 'this address'} may not ask this: use kubectl port-forward, or add its network to --ops-allowed (SLUICE_OPS_ALLOWED)`;
    const problem = { status: 403, code: 'NOT_AN_OPERATOR', title: 'Forbidden', detail };
    send(response, problemAnswer(problem, idOf(response)));
  };
}
