import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ApiClient } from '../../operator/kubernetes/api-client.ts';
import { loadKubeConfig } from '../../operator/kubernetes/connection.ts';
import { ServiceEndpoints } from '../../operator/kubernetes/endpoints.ts';
import { type ControlPlane, startControlPlane } from '../control-plane/control-plane.ts';
import { eventually } from '../harness/eventually.ts';

let controlPlane: ControlPlane;
let client: ApiClient;

beforeAll(async () => {
  controlPlane = await startControlPlane();
  client = new ApiClient(loadKubeConfig(controlPlane.kubeconfigPath));
});
afterAll(async () => {
  await client.close();
  await controlPlane.stop();
});

const endpoint = (pod: string, ready: boolean): object => ({
  addresses: ['10.1.2.3'],
  conditions: { ready },
  targetRef: { kind: 'Pod', name: pod, namespace: 'default' },
});

async function apply(service: string, ...endpoints: object[]): Promise<void> {
  const slice = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `${service}-x`, namespace: 'default', labels: { 'kubernetes.io/service-name': service } },
    addressType: 'IPv4',
    endpoints,
  };
  await controlPlane.kubectl(['apply', '-f', '-'], { stdin: JSON.stringify(slice) });
}

describe('the ready pods of a Service', () => {
  it('are read from the slices that a real API server sends, and followed', async () => {
    await apply('limiter', endpoint('a', true), endpoint('b', false));
    await apply('another', endpoint('z', true));
    const options = { log: pino({ level: 'silent' }) };
    const endpoints = new ServiceEndpoints(client, { namespace: 'default', name: 'limiter' }, options);
    endpoints.start(() => undefined);
    await eventually(() => expect(endpoints.hasSynced).toBe(true));
    expect([...endpoints.pods()]).toEqual(['a']);
    await apply('limiter', endpoint('a', true), endpoint('b', true));
    await eventually(() => expect(endpoints.pods()).toEqual(new Set(['a', 'b'])));
    await endpoints.stop();
  });
});
