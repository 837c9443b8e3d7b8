/** Short commands that are run to their end. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const OUTPUT_BYTES_MAX = 16 * 1024 * 1024;

/**
 * Runs a program and gives its standard output; throws with what it wrote to standard error.
 * @param {string} program
 * @param {string[]} args
 * @param {{cwd?: string, env?: Record<string, string>, timeoutMs?: number}} [options]
 * @returns {Promise<string>}
 */
export async function run(program, args, { cwd, env, timeoutMs = 60_000 } = {}) {
  try {
    const { stdout } = await execute(program, args, {
      cwd,
      env: { ...process.env, ...env },
      timeout: timeoutMs,
      maxBuffer: OUTPUT_BYTES_MAX,
    });
    return stdout;
  } catch (error) {
    const text = String(error.stderr || error.message).trim();
    throw new Error(`${program} ${args.join(' ')}: ${text}`, { cause: error });
  }
}

/** @returns {Promise<boolean>} true when the program ended with 0 */
export async function succeeds(program, args) {
  try {
    await run(program, args);
    return true;
  } catch {
    return false;
  }
}

/** @param {number} ms */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Asks again and again until there is an answer.
 * @template T
 * @param {string} what named when the time is over
 * @param {number} msMax
 * @param {() => T | undefined | false | Promise<T | undefined | false>} ask
 * @returns {Promise<T>}
 */
export async function until(what, msMax, ask, everyMs = 50) {
  const end = performance.now() + msMax;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (performance.now() > end) throw new Error(`${what}: not within ${msMax} ms`);
    await sleep(everyMs);
  }
}
