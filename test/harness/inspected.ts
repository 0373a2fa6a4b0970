import { eventually } from './eventually.ts';
import type { SluiceProcess } from './processes.ts';

/** What a process holds, in bytes, as process.memoryUsage() says it there. */
export type Memory = {
  readonly heapUsed: number;
  readonly external: number;
  readonly rss: number;
  /** What was resident before the collection. */
  readonly rssBefore: number;
};

export type Inspected = {
  /** What is in use after everything unreachable was collected. */
  memory(): Promise<Memory>;
  close(): void;
};

/** In NODE_OPTIONS: Node's inspector on a free port, which the process prints. */
export const INSPECT = '--inspect=127.0.0.1:0';

/** Talks to the inspector of a process that was started with it. */
export async function inspect(target: SluiceProcess): Promise<Inspected> {
  const url = await eventually(() => {
    const printed = /ws:\/\/127\.0\.0\.1:\d+\/[0-9a-f-]+/.exec(target.output())?.[0];
    if (printed === undefined) throw new Error(`no inspector listens: ${target.output()}`);
    return printed;
  });
  const socket = new WebSocket(url);
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener('open', () => resolve());
    socket.addEventListener('error', () => reject(new Error(`${url} cannot be reached`)));
  });
  let lastId = 0;
  const call = (method: string, params: object = {}): Promise<unknown> => {
    lastId += 1;
    const id = lastId;
    socket.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve, reject) => {
      const hear = ({ data }: MessageEvent): void => {
        const answer: { id?: number; result?: unknown } = JSON.parse(String(data));
        if (answer.id !== id) return;
        socket.removeEventListener('message', hear);
        socket.removeEventListener('close', lost);
        resolve(answer.result);
      };
      const lost = (): void => reject(new Error(`the process ended: ${target.output()}`));
      socket.addEventListener('message', hear);
      socket.addEventListener('close', lost);
    });
  };
  return {
    memory: async () => {
      const rssBefore = await call('Runtime.evaluate', { expression: 'process.memoryUsage.rss()' });
      // The second time collects what the first one's finalisers let go of.
      await call('HeapProfiler.collectGarbage');
      await call('HeapProfiler.collectGarbage');
      const after = await call('Runtime.evaluate', { expression: 'process.memoryUsage()', returnByValue: true });
      const { heapUsed, external, rss } = Object(Object(after).result?.value);
      return {
        heapUsed: Number(heapUsed),
        external: Number(external),
        rss: Number(rss),
        rssBefore: Number(Object(rssBefore).result?.value),
      };
    },
    close: () => socket.close(),
  };
}
