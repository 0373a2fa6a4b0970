import { defineConfig } from 'vitest/config';

// Every project runs on real parts. Files run in parallel processes, each with servers of its own; a time-out here is
// only the bound after which a hung test is reported, never a measure of speed.
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // These need programs that not every machine can have: `make integrations` runs them.
    exclude: ['test/integrations/**'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 180_000,
    retry: 0,
    allowOnly: false,
    expect: { requireAssertions: true },
  },
});
