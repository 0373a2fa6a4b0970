// gRPC reflection, which grpcurl and the like ask. Its libraries cost more at start than all else of gRPC, and hardly any
// pod is ever asked: they are loaded by the first who asks, and messages wait for them.
import { EventEmitter } from 'node:events';
import type { Call } from './http2/call.ts';
import type { Method } from './http2/method.ts';
import { status } from './status.ts';

const METHOD = 'ServerReflectionInfo';
const PATHS = ['v1', 'v1alpha'].map((version) => `/grpc.reflection.${version}.ServerReflection/${METHOD}`);

/** Between the bytes of a method's messages and plain objects. */
type Codec = { readonly decode: (bytes: Buffer) => unknown; readonly encode: (message: object) => Uint8Array };

/** The library's own method: it listens to `data` and `end` of a stream, and writes to it. */
type Implementation = { readonly codec: Codec; readonly answer: (stream: Stream) => void };

export function reflectionMethods(): (readonly [path: string, method: Method])[] {
  let loading: Promise<ReadonlyMap<string, Implementation>> | undefined;
  return PATHS.map((path) => {
    const streams = new WeakMap<Call, Promise<Stream | undefined>>();
    const streamOf = (call: Call): Promise<Stream | undefined> => {
      const known = streams.get(call);
      if (known !== undefined) return known;
      loading ??= loadImplementations();
      const opened = open(call, path, loading);
      streams.set(call, opened);
      return opened;
    };
    const method: Method = {
      isUnary: false,
      receive: (call, message) => void streamOf(call).then((stream) => stream?.receive(message)),
      finish: (call) => void streamOf(call).then((stream) => stream?.emit('end')),
    };
    return [path, method] as const;
  });
}

/** Undefined if the library is not to be had; the call has ended by it then. */
async function open(
  call: Call,
  path: string,
  loading: Promise<ReadonlyMap<string, Implementation>>,
): Promise<Stream | undefined> {
  try {
    const implementation = (await loading).get(path);
    if (implementation === undefined) throw new Error(`the library has no ${path}`);
    const stream = new Stream(call, implementation.codec);
    implementation.answer(stream);
    return stream;
  } catch (error) {
    call.end(status.INTERNAL, `reflection cannot be loaded: ${String(error)}`);
    return undefined;
  }
}

/** What the library sees of a call. */
class Stream extends EventEmitter {
  readonly #call: Call;
  readonly #codec: Codec;

  constructor(call: Call, codec: Codec) {
    super();
    this.#call = call;
    this.#codec = codec;
  }

  receive(bytes: Buffer): void {
    try {
      this.emit('data', this.#codec.decode(bytes));
    } catch {
      this.#call.end(status.INTERNAL, 'the message cannot be decoded');
    }
  }

  write(message: object): void {
    this.#call.write(this.#codec.encode(message));
  }

  end(): void {
    this.#call.succeed();
  }
}

async function loadImplementations(): Promise<ReadonlyMap<string, Implementation>> {
  const [{ ReflectionService }, { loadProtocol }] = await Promise.all([
    import('@grpc/reflection'),
    import('./protocol.ts'),
  ]);
  const implementations = new Map<string, Implementation>();
  const service = new ReflectionService(loadProtocol());
  // It would add its methods to a server of grpc-js: that is all that it wants of one.
  const addService = (
    definitions: ServiceMethods,
    answers: Readonly<Record<string, (stream: Stream) => void>>,
  ): void => {
    const [definition, answer] = [definitions[METHOD], answers[METHOD]];
    if (definition === undefined || answer === undefined) return;
    const { path, requestDeserialize, responseSerialize } = definition;
    implementations.set(path, { codec: { decode: requestDeserialize, encode: responseSerialize }, answer });
  };
  Reflect.apply(Reflect.get(service, 'addToServer'), service, [{ addService }]);
  return implementations;
}

type ServiceMethods = Readonly<
  Record<
    string,
    {
      readonly path: string;
      readonly requestDeserialize: Codec['decode'];
      readonly responseSerialize: Codec['encode'];
    }
  >
>;
