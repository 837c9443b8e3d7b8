#!/usr/bin/env node
import { existsSync } from 'node:fs';

const main = new URL('../dist/cli/main.js', import.meta.url);
if (existsSync(main)) {
  await import(main.href);
} else {
  console.error(
    'colo-proxy is not built yet: run `npm run setup` in its folder (or `npm ci && npm run build`).',
  );
  process.exitCode = 1;
}
