import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Agent, request } from 'node:https';
import { KubeConfig } from '@kubernetes/client-node';
import type { ControlPlane } from '../control-plane/control-plane.ts';

/** What the proxy answers instead of the API server; `undefined` lets the request pass. */
export type Intervention = (request: IncomingMessage, response: ServerResponse) => 'answered' | undefined;

export type ApiProxy = {
  readonly port: number;
  /** Looks at every request first. */
  intervene(intervention: Intervention | undefined): void;
  /** How many requests came that match. */
  count(pattern: RegExp): number;
  close(): Promise<void>;
};

/**
 * Stands between a client and the API server and speaks HTTP to the client, so that it can answer in the server's place.
 * Whoever the client says it is, the API server is asked as the administrator.
 */
export async function startApiProxy({ serverUrl, caPath, token }: ControlPlane): Promise<ApiProxy> {
  const agent = new Agent({ ca: readFileSync(caPath), keepAlive: true });
  const seen: string[] = [];
  let intervention: Intervention | undefined;
  const listener = createServer((incoming, response) => {
    seen.push(`${incoming.method} ${incoming.url}`);
    if (intervention?.(incoming, response) === 'answered') return;
    const headers = { ...incoming.headers, authorization: `Bearer ${token}`, host: new URL(serverUrl).host };
    const outgoing = request(`${serverUrl}${incoming.url}`, { agent, method: incoming.method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
      answer.on('error', () => response.destroy());
    });
    outgoing.on('error', () => response.destroy());
    response.on('close', () => outgoing.destroy());
    incoming.pipe(outgoing);
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  if (typeof address !== 'object' || address === null) throw new Error('the proxy has no port');
  return {
    port: address.port,
    intervene: (next) => {
      intervention = next;
    },
    count: (pattern) => seen.filter((line) => pattern.test(line)).length,
    close: async () => {
      const closed = once(listener, 'close');
      listener.close();
      listener.closeAllConnections();
      agent.destroy();
      await closed;
    },
  };
}

/** A kubeconfig for a port of this machine where HTTP is spoken. */
export function kubeConfigFor(port: number, user: Readonly<Record<string, unknown>> = {}): KubeConfig {
  const config = new KubeConfig();
  config.loadFromClusterAndUser(
    { name: 'proxy', server: `http://127.0.0.1:${port}`, skipTLSVerify: true },
    { name: 'user', ...user },
  );
  return config;
}

/** Answers as the API server does when it refuses. */
export function refuse(
  response: ServerResponse,
  status: number,
  { reason = '', headers = {} }: { readonly reason?: string; readonly headers?: Readonly<Record<string, string>> } = {},
): 'answered' {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(
    JSON.stringify({ kind: 'Status', status: 'Failure', code: status, reason, message: 'a fault of the test' }),
  );
  return 'answered';
}
