import { z } from 'zod';

const metadata = z.object({
  name: z.string(),
  namespace: z.string().default(''),
  uid: z.string(),
  generation: z.int().default(1),
  creationTimestamp: z.string().default(''),
  labels: z.record(z.string(), z.string()).optional(),
  resourceVersion: z.string(),
});

const object = z.object({
  metadata,
  /** An EndpointSlice has neither. */
  spec: z.unknown().optional(),
  status: z.unknown().optional(),
  /** Of an EndpointSlice. */
  endpoints: z.unknown().optional(),
  /** Of a Secret. */
  data: z.unknown().optional(),
});

const list = z.object({
  metadata: z.object({ resourceVersion: z.string(), continue: z.string().default('') }),
  items: z.array(object),
});

const watchEvent = z.discriminatedUnion('type', [
  z.object({ type: z.enum(['ADDED', 'MODIFIED', 'DELETED']), object }),
  z.object({ type: z.literal('BOOKMARK'), object: z.object({ metadata: z.object({ resourceVersion: z.string() }) }) }),
  z.object({
    type: z.literal('ERROR'),
    object: z.object({
      code: z.number().default(500),
      reason: z.string().default(''),
      message: z.string().default(''),
    }),
  }),
]);

/** An object as the API server sends it, as far as we read it. */
export type KubernetesObject = z.output<typeof object>;

export type WatchEvent =
  | {
      readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
      readonly object: KubernetesObject;
      readonly resourceVersion: string;
    }
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string }
  | {
      readonly type: 'ERROR';
      readonly status: number;
      readonly reason: string;
      readonly message: string;
      readonly resourceVersion: string;
    };

export const parseObject = (value: unknown): KubernetesObject => object.parse(value);

export function parseList(value: unknown): { objects: KubernetesObject[]; next: string; resourceVersion: string } {
  const parsed = list.parse(value);
  return { objects: parsed.items, next: parsed.metadata.continue, resourceVersion: parsed.metadata.resourceVersion };
}

/** Throws if the line is no watch event. */
export function parseWatchEvent(line: string): WatchEvent {
  const event = watchEvent.parse(JSON.parse(line));
  switch (event.type) {
    case 'BOOKMARK':
      return { type: event.type, resourceVersion: event.object.metadata.resourceVersion };
    case 'ERROR':
      return {
        type: event.type,
        status: event.object.code,
        reason: event.object.reason,
        message: event.object.message,
        resourceVersion: '',
      };
    default:
      return { type: event.type, object: event.object, resourceVersion: event.object.metadata.resourceVersion };
  }
}
