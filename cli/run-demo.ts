import { startDemoApp } from './dev/demo-app.ts';
import { SettingsError } from './settings/setting.ts';
import { untilStopped } from './until-stopped.ts';

/** The demo application alone, in front of limiters that run elsewhere. Runs until a signal. */
export async function runDemo(raw: {
  readonly host: string;
  readonly port: string;
  readonly limiters: string;
}): Promise<void> {
  const port = Number(raw.port);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new SettingsError(`--port (SLUICE_PORT) "${raw.port}": must be a whole number from 0 to 65535`);
  }
  const limiters = raw.limiters.split(',');
  const bad = limiters.find((limiter) => !/^https?:$/.test(URL.parse(limiter)?.protocol ?? ''));
  if (bad !== undefined) {
    throw new SettingsError(
      `--limiters (SLUICE_LIMITERS) "${bad}": must be http:// or https:// URLs, with commas between`,
    );
  }
  const demo = await startDemoApp({ host: raw.host, port, limiters });
  await untilStopped();
  await demo.stop();
}
