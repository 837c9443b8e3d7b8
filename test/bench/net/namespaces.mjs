// The network namespaces that a benchmark runs in.
import { execFileSync } from 'node:child_process';
import { sleep, withUndo } from '../lib/tools.mjs';

/** Kept names: ip(8) tells which process made a namespace that was left behind. */
export const ns = (label) => `colo-bench-${process.pid}-${label}`;
export const ip = (...words) => execFileSync('ip', words, { stdio: ['ignore', 'pipe', 'pipe'] }).toString();
export const inside = (label, words) => ['ip', 'netns', 'exec', ns(label), ...words];

export async function withNamespaces(labels, action) {
  const made = [];
  const removeAll = () => {
    for (const label of made) ip('netns', 'del', ns(label));
  };
  return withUndo(removeAll, () => {
    for (const label of labels) {
      ip('netns', 'add', ns(label));
      made.push(label);
      ip('-n', ns(label), 'link', 'set', 'lo', 'up');
    }
    return action();
  });
}

/** In the namespace `host`. */
export async function untilUpIs(name) {
  for (let tries = 0; tries < 100; tries += 1) {
    await sleep(100);
    try {
      if (/[<,]UP[,>]/.test(ip('-n', ns('host'), 'link', 'show', name))) return;
    } catch {
      // not made yet
    }
  }
  throw new Error(`${name} did not come up`);
}
