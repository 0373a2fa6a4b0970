/** The part of autocannon 9 that is used here; the package brings no types. */
declare module 'autocannon' {
  export type Client = {
    /** Walked again and again, one after the other. */
    setRequests(requests: { body: string }[]): void;
  };

  export type Options = {
    readonly url: string;
    readonly method: 'POST';
    readonly headers: Readonly<Record<string, string>>;
    readonly connections: number;
    /** Seconds. */
    readonly duration: number;
    /** Milliseconds between looks at whether the time is over. */
    readonly sampleInt: number;
    readonly setupClient: (client: Client) => void;
    /** False counts as a mismatch. */
    readonly verifyBody: (body: string) => boolean;
  };

  export type Result = {
    readonly errors: number;
    readonly timeouts: number;
    readonly non2xx: number;
    readonly mismatches: number;
    readonly '2xx': number;
  };

  export type Instance = PromiseLike<Result> & {
    stop(): void;
    on(
      event: 'response',
      listener: (client: Client, statusCode: number, bytes: number, responseMillis: number) => void,
    ): Instance;
  };

  export default function autocannon(options: Options): Instance;
}
