// Makes sure that every program is there that the tests against a real API server run, building what is missing.
//
//   node test/control-plane/prepare.ts     prints a line `name=path` for each
import { ASSET_NAMES, findAsset } from './assets.ts';

try {
  for (const name of ASSET_NAMES) console.log(`${name}=${await findAsset(name)}`);
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
