import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

// Not part of `make test`: these need programs that prepare.ts finds or fetches. `make integrations` runs them.
export default defineConfig({
  test: {
    root: join(import.meta.dirname, '../..'),
    include: ['test/integrations/*.test.ts'],
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 180_000,
    retry: 0,
    allowOnly: false,
    expect: { requireAssertions: true },
  },
});
