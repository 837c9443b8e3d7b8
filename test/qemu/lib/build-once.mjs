/** Things that are made once and kept in the cache, under a name that changes with what they are made of. */
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { sleep } from './command.mjs';
import { CACHE } from './paths.mjs';

const LOCK_WAIT_MS_MAX = 300_000;

/** @param {(string | Buffer)[]} parts what a thing is made of */
export function fingerprint(...parts) {
  const hash = crypto.createHash('sha256');
  for (const part of parts) hash.update(part).update('\0');
  return hash.digest('hex').slice(0, 12);
}

/**
 * Makes `CACHE/name` (a file or a folder) unless it is there. It appears whole or not at all, and two runs that
 * want it at the same time make it once.
 * @param {string} name
 * @param {(target: string, scratch: string) => Promise<void>} make writes `target`; `scratch` is an empty folder
 * @returns {Promise<string>} the path
 */
export async function buildOnce(name, make) {
  const final = path.join(CACHE, name);
  if (fs.existsSync(final)) return final;
  fs.mkdirSync(CACHE, { recursive: true });
  const release = await lock(`${final}.lock`);
  const scratch = fs.mkdtempSync(path.join(CACHE, 'building-'));
  try {
    if (!fs.existsSync(final)) {
      const target = path.join(scratch, 'target');
      await make(target, fs.mkdtempSync(path.join(scratch, 'scratch-')));
      fs.renameSync(target, final);
    }
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
    release();
  }
  return final;
}

/** Removes older versions of a cached thing. */
export function forgetOthers(prefix, keep) {
  for (const entry of fs.readdirSync(CACHE)) {
    if (entry.startsWith(prefix) && entry !== path.basename(keep) && !entry.endsWith('.lock')) {
      fs.rmSync(path.join(CACHE, entry), { recursive: true, force: true });
    }
  }
}

async function lock(file) {
  const end = performance.now() + LOCK_WAIT_MS_MAX;
  for (;;) {
    try {
      fs.writeFileSync(file, String(process.pid), { flag: 'wx' });
      return () => fs.rmSync(file, { force: true });
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    if (holderIsGone(file)) fs.rmSync(file, { force: true });
    else if (performance.now() > end) throw new Error(`${file} is held by another run`);
    else await sleep(200);
  }
}

function holderIsGone(file) {
  try {
    const pid = Number(fs.readFileSync(file, 'utf8'));
    if (!pid) return false;
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return error.code === 'ESRCH';
  }
}
