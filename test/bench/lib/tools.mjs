// What the benchmarks share: building their C programs, running children pinned to a core, medians with their spread.
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const isRoot = process.getuid() === 0;

/** In front of what is measured, and of what drives it. */
export const measured = (...words) => ['taskset', '-c', '1', ...words];
export const driver = (...words) => [...(isRoot ? ['chrt', '-r', '20'] : []), 'taskset', '-c', '0', ...words];

/**
 * Puts a process that has started, or some of its threads, above whatever else the machine is doing; not the threads that
 * they start from then on, which would take turns of 100 ms with them. Needs root.
 */
export function raise(pid, threads = readdirSync(`/proc/${pid}/task`)) {
  if (!isRoot) return;
  for (const thread of threads)
    spawnSync('chrt', ['-R', '-r', '-p', '20', String(thread)], { stdio: 'ignore' });
}

/** Compiles a program of test/bench when its sources are newer; returns its path. */
export function build(name, source) {
  const folder = join(ROOT, '.cache', 'bench');
  const program = join(folder, name);
  const sources = [join(ROOT, 'test/bench', source), join(ROOT, 'test/bench/frames.h')];
  mkdirSync(folder, { recursive: true });
  const builtMs = statSync(program, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (sources.every((path) => statSync(path).mtimeMs < builtMs)) return program;
  const { status } = spawnSync('cc', ['-O2', '-Wall', '-o', program, sources[0]], { stdio: 'inherit' });
  if (status !== 0) throw new Error(`cannot build ${source}`);
  return program;
}

const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP'];
const children = new Set();
const undos = new Set();

function undoAll(_name, signal) {
  for (const child of children) child.kill('SIGKILL');
  for (const undo of [...undos].reverse()) undo();
  process.exit(128 + signal);
}

/** Does `action`, then `undo`; a signal that ends the benchmark does not leave it undone. */
export async function withUndo(undo, action) {
  if (undos.size === 0) for (const signal of ENDING) process.on(signal, undoAll);
  undos.add(undo);
  try {
    return await action();
  } finally {
    undos.delete(undo);
    if (undos.size === 0) for (const signal of ENDING) process.off(signal, undoAll);
    undo();
  }
}

/** A child that is asked and answers in lines. */
export class Child {
  #lines = [];
  #waiting = [];
  #ended;

  constructor(words, options = {}) {
    this.process = spawn(words[0], words.slice(1), { stdio: ['pipe', 'pipe', 'inherit'], ...options });
    children.add(this.process);
    this.#ended = new Promise((resolve) => {
      this.process.once('exit', resolve);
    });
    this.process.once('exit', () => children.delete(this.process));
    this.process.once('close', (code) => {
      for (const { reject } of this.#waiting) reject(new Error(`${words.join(' ')} ended with ${code}`));
    });
    if (this.process.stdout === null) return;
    createInterface({ input: this.process.stdout }).on('line', (line) => {
      const waiting = this.#waiting.shift();
      if (waiting) waiting.resolve(line);
      else this.#lines.push(line);
    });
  }

  get pid() {
    return this.process.pid;
  }

  line() {
    const line = this.#lines.shift();
    if (line !== undefined) return Promise.resolve(line);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  ask(line = '') {
    this.process.stdin.write(`${line}\n`);
    return this.line();
  }

  /** Ends its input and waits for it; killed when it takes too long. */
  async end(msMax = 5000) {
    this.process.stdin.end();
    const timer = setTimeout(() => this.process.kill('SIGKILL'), msMax);
    await this.#ended;
    clearTimeout(timer);
  }

  async kill(signal = 'SIGKILL') {
    this.process.kill(signal);
    await this.#ended;
  }
}

export function summary(numbers) {
  const sorted = numbers.toSorted((a, b) => a - b);
  return { median: sorted[Math.floor(sorted.length / 2)], min: sorted[0], max: sorted.at(-1) };
}

export function show({ median, min, max }, digits = 2) {
  return `${median.toFixed(digits)} [${min.toFixed(digits)}..${max.toFixed(digits)}]`;
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
