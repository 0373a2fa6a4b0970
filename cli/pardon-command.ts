import { type Command, InvalidArgumentError } from 'commander';

type Asked = { url: string; domain: string; policy: string; subject: Record<string, string>; reason?: string };

/** `sluice pardon`: asks a limiter to lift a penalty. Any limiter does it for all. */
export function addPardonCommand(program: Command): void {
  program
    .command('pardon')
    .description('lift a penalty, through the ops port of any limiter (kubectl port-forward)')
    .requiredOption('--domain <value>', 'domain of the policy')
    .requiredOption('--policy <value>', 'namespace/name of the policy whose penalty it is')
    .requiredOption('--subject <axis=value>', 'who it is about, such as consumer=key:acme; once for each axis', axisOf)
    .option('--reason <value>', 'for the log')
    .option('--url <value>', 'ops port of a limiter', 'http://127.0.0.1:9090')
    .action(async (asked: Asked) => {
      process.stdout.write(`lifted: the state was ${await pardon(asked)}\n`);
    });
}

function axisOf(text: string, before: Record<string, string> = {}): Record<string, string> {
  const [, axis, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (axis === undefined || value === undefined) throw new InvalidArgumentError('Must be an axis, "=" and a value.');
  return { ...before, [axis]: value };
}

/** The state before. Throws if the limiter refuses or cannot be reached, with what it says. */
async function pardon({ url, ...asked }: Asked): Promise<string> {
  const request = { method: 'POST', body: JSON.stringify(asked), signal: AbortSignal.timeout(10_000) };
  const response = await fetch(new URL('/penalty/pardon', url), request).catch((error: unknown) => {
    throw new Error(`no limiter answers on ${url}`, { cause: error });
  });
  const { before, detail } = Object(await response.json());
  if (!response.ok) throw new Error(String(detail));
  return String(before);
}
