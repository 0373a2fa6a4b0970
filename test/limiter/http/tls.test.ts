import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { Client, credentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { limiterOptions, limiterSettings } from '../../../cli/settings/limiter.ts';
import { startDoors } from '../../harness/doors.ts';
import { eventually } from '../../harness/eventually.ts';
import { PEPPER, startTestLimiter } from '../../harness/limiter.ts';
import { type PrivateRedis, privateRedis } from '../../harness/redis.ts';

let folder: string;
let server: PrivateRedis;
beforeAll(async () => {
  server = await privateRedis();
  folder = mkdtempSync(join(tmpdir(), 'sluice-tls-'));
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  for (const name of ['one', 'other']) {
    const files = ['-keyout', join(folder, `${name}.key`), '-out', join(folder, `${name}.crt`)];
    const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
    execFileSync('openssl', [...args, ...files, ...subject], { stdio: 'ignore' });
  }
});
afterAll(async () => {
  rmSync(folder, { recursive: true });
  await server.stop();
});

const presets = Object.fromEntries(limiterOptions().map((option) => [option.attributeName(), option.defaultValue]));
const settingsWith = (files: object) => limiterSettings({ ...presets, pepper: PEPPER, ...files });

describe('TLS', () => {
  it('is spoken on the ports for callers, and never on the one for operators', async () => {
    const files = { tlsCertFile: join(folder, 'one.crt'), tlsKeyFile: join(folder, 'one.key') };
    const limiter = await startTestLimiter({ redisUrl: server.url, doors: { tls: settingsWith(files).doors.tls } });
    const ca = readFileSync(files.tlsCertFile);
    const status = await new Promise((resolve, reject) => {
      const asking = request(`${limiter.url.replace('http:', 'https:')}/health`, { ca }, (response) => {
        response.resume();
        resolve(response.statusCode);
      });
      asking.on('error', reject).end();
    });
    expect(status).toBe(503);
    // HTTP/1.1 only: who offers nothing else than HTTP/2 does not get as far as a request.
    const http2 = connectTls({
      port: Number(new URL(limiter.url).port),
      host: '127.0.0.1',
      servername: 'localhost',
      ca,
      ALPNProtocols: ['h2'],
    });
    const [refusal] = await once(http2, 'error');
    expect(Object(refusal).code).toBe('ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL');
    const client = new Client(limiter.grpcAddress, credentials.createSsl(ca));
    await new Promise<void>((resolve, reject) => {
      client.waitForReady(Date.now() + 30_000, (error) => (error === undefined ? resolve() : reject(error)));
    });
    client.close();
    expect((await fetch(`${limiter.opsUrl}/livez`)).status).toBe(200);
    // Without TLS nobody is answered.
    await expect(fetch(`${limiter.url}/health`)).rejects.toThrow('fetch failed');
    await limiter.stop();
    await eventually(() => expect(limiter.logged().filter(({ event }) => event === 'request_failed')).toEqual([]));
  });

  it('is read as other connections are: by us, and by Node what is not for us', async () => {
    const files = { tlsCertFile: join(folder, 'one.crt'), tlsKeyFile: join(folder, 'one.key') };
    const doors = await startDoors(undefined, settingsWith(files).doors.tls);
    const ca = readFileSync(files.tlsCertFile);
    const client = connectTls({ port: doors.port, host: '127.0.0.1', servername: 'localhost', ca });
    let text = '';
    client.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
    });
    const idsSaid = (): string[] => [...text.matchAll(/x-request-id: (\S+)/g)].map(([, id]) => String(id));
    const health = (id: string): string => `GET /health HTTP/1.1\r\nHost: a\r\nX-Request-ID: ${id}\r\n\r\n`;
    client.write(health('one'));
    await eventually(() => expect(idsSaid()).toEqual(['one']));
    expect(doors.readByNode()).toBe(0);
    client.write(health('two') + health('three'));
    await eventually(() => expect(idsSaid()).toEqual(['one', 'two', 'three']));
    expect(doors.readByNode()).toBe(2);
    const closed = once(client, 'close');
    doors.doors.closeIdleConnections();
    await closed;
    await doors.stop();
  });

  it.each<[string, () => object, string]>([
    ['a certificate without a key', () => ({ tlsCertFile: join(folder, 'one.crt') }), 'need each other'],
    [
      'the key of another certificate',
      () => ({ tlsCertFile: join(folder, 'one.crt'), tlsKeyFile: join(folder, 'other.key') }),
      'key values mismatch',
    ],
    [
      'a file that there is not',
      () => ({ tlsCertFile: join(folder, 'none.crt'), tlsKeyFile: join(folder, 'one.key') }),
      'no such file',
    ],
  ])('with %s stops the start', (_title, files, why) => {
    expect(() => settingsWith(files())).toThrow(why);
  });
});
