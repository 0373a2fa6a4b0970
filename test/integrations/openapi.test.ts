import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { describeApi } from '../../limiter/ops/openapi.ts';
import { validateOpenApi } from './programs.ts';

it('the description of the API is valid to an independent validator', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-openapi-'));
  const file = join(folder, 'openapi.json');
  await writeFile(file, JSON.stringify(describeApi('1.2.3')));
  expect(await validateOpenApi(file)).toMatch(/OK$/);
  await rm(folder, { recursive: true });
});
