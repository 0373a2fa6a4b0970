import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

// Not part of `make test`: these need a cluster with pods. `make e2e` and `make chaos` run them, one file after another.
export default defineConfig({
  test: {
    root: join(import.meta.dirname, '../..'),
    include: ['test/cluster/*.{e2e,chaos}.ts'],
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 900_000,
    hookTimeout: 300_000,
    retry: 0,
    bail: 1,
    allowOnly: false,
    expect: { requireAssertions: true },
  },
});
