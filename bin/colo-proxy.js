#!/usr/bin/env node
import { existsSync } from 'node:fs';

const entry = new URL('../dist/cli/main.js', import.meta.url);
if (existsSync(entry)) {
  const { main } = await import(entry.href);
  process.stdout.on('error', () => process.exit(1)); // the reader of a pipe is gone
  const exitCode = await main(process.argv.slice(2), {
    env: process.env,
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
    confine: async () => {
      const { confineProcess } = await import('../dist/system/confine.js');
      confineProcess(process.argv);
    },
  });
  process.exit(exitCode);
} else {
  console.error('colo-proxy is not built yet: run `npm run setup` in its folder.');
  process.exitCode = 1;
}
