// gRPC reflection, which grpcurl and the like ask. Its library costs as much at start as all else of gRPC, and hardly
// any pod is ever asked: it is loaded by the first who asks, and reads nothing of a call before that.
import {
  type handleBidiStreamingCall,
  type MethodDefinition,
  Server,
  type ServerDuplexStream,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { PackageDefinition } from '@grpc/proto-loader';

const METHOD = 'ServerReflectionInfo';
const PATHS = ['v1', 'v1alpha'].map((version) => `/grpc.reflection.${version}.ServerReflection/${METHOD}`);

type Method = {
  readonly definition: MethodDefinition<object, object>;
  readonly answer: handleBidiStreamingCall<object, object>;
};
type Methods = ReadonlyMap<string, Method>;

export function addReflection(server: Server, protocol: PackageDefinition): void {
  let loading: Promise<Methods> | undefined;
  for (const path of PATHS) {
    let method: Method | undefined;
    const answer = async (call: ServerDuplexStream<object, object>): Promise<void> => {
      loading ??= loadMethods(protocol);
      try {
        method = (await loading).get(path);
        if (method === undefined) throw new Error(`the library has no ${path}`);
        method.answer(call);
      } catch (error) {
        call.emit('error', { code: status.INTERNAL, details: `reflection cannot be loaded: ${String(error)}` });
      }
    };
    const definition = definitionOf(path, () => method?.definition);
    server.addService(
      { [METHOD]: definition },
      { [METHOD]: (call: ServerDuplexStream<object, object>) => void answer(call) },
    );
  }
}

/** Messages come and go only after the library is loaded, because nobody reads the call before. */
function definitionOf(
  path: string,
  loaded: () => MethodDefinition<object, object> | undefined,
): MethodDefinition<object, object> {
  const get = (): MethodDefinition<object, object> => {
    const definition = loaded();
    if (definition === undefined) throw new Error(`${path} was read before it was loaded`);
    return definition;
  };
  return {
    path,
    requestStream: true,
    responseStream: true,
    requestSerialize: (message) => get().requestSerialize(message),
    requestDeserialize: (bytes) => get().requestDeserialize(bytes),
    responseSerialize: (message) => get().responseSerialize(message),
    responseDeserialize: (bytes) => get().responseDeserialize(bytes),
  };
}

async function loadMethods(protocol: PackageDefinition): Promise<Methods> {
  const { ReflectionService } = await import('@grpc/reflection');
  const collector = new Collector();
  new ReflectionService(protocol).addToServer(collector);
  return collector.methods;
}

/** Takes what the library would add to a server: ours has it already. */
class Collector extends Server {
  readonly methods = new Map<string, Method>();

  override addService(service: ServiceDefinition, implementation: UntypedServiceImplementation): void {
    const definition = service[METHOD];
    const answer = implementation[METHOD];
    if (definition === undefined || answer === undefined) return;
    this.methods.set(definition.path, {
      definition,
      // A service's own types are not known here: what implements a method of two streams takes a call of two streams.
      answer: (call) => Reflect.apply(answer, implementation, [call]),
    });
  }
}
