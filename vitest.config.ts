import { defineConfig } from 'vitest/config';

// Kernel and namespace tests change interfaces and are timed by the kernel: one file at a time.
const alone = { fileParallelism: false, testTimeout: 60_000, hookTimeout: 60_000 };

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          setupFiles: ['test/unit/property-sizes.ts'],
          testTimeout: 30_000,
        },
      },
      { test: { name: 'netns', include: ['test/netns/**/*.test.ts'], ...alone } },
      { test: { name: 'browser', include: ['test/browser/**/*.test.ts'], ...alone } },
      { test: { name: 'package', include: ['test/package/**/*.test.ts'], ...alone, testTimeout: 300_000 } },
      { test: { name: 'kernel', include: ['test/kernel/**/*.test.ts'], ...alone } },
    ],
  },
});
