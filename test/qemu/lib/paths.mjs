/** Where the laboratory's files are: sources beside this folder, everything made at run time under `.cache/`. */
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const LAB = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
export const CHECKOUT = path.resolve(LAB, '../..');
export const CACHE = path.join(CHECKOUT, '.cache/qemu');
export const RUNS = path.join(CACHE, 'runs');
export const PROXY = path.join(CHECKOUT, 'bin/colo-proxy.js');
