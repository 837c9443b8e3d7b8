import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { request } from 'node:http';

/** Generous: the machine may be busy, and a wait that is not needed costs nothing. */
const WAIT_MS_MAX = 20_000;

/** The built command as a child process (run `npm run build` first), with its log lines. */
export class ProxyProcess {
  readonly child: ChildProcess;
  readonly lines: Record<string, unknown>[] = [];
  err = '';
  #rest = '';

  constructor(words: readonly string[], spawnNode: (words: string[]) => ChildProcess = spawnHere) {
    this.child = spawnNode(['bin/colo-proxy.js', ...words]);
    this.child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      const parts = (this.#rest + text).split('\n');
      this.#rest = parts.pop()!;
      this.lines.push(...parts.map((line) => JSON.parse(line)));
    });
    this.child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.err += text;
    });
  }

  async until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const endMs = Date.now() + WAIT_MS_MAX;
    while (!(await condition())) {
      if (Date.now() > endMs || this.child.exitCode !== null) {
        throw new Error(
          `${what} did not come\n${this.err}${this.lines.map((line) => JSON.stringify(line)).join('\n')}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  said(message: string): boolean {
    return this.lines.some((line) => line.msg === message);
  }

  /** Exit code, or the signal that ended it. */
  async exit(): Promise<number | string> {
    const { child } = this;
    if (child.exitCode === null && child.signalCode === null) await once(child, 'close');
    return child.exitCode ?? child.signalCode!;
  }

  /** For afterEach: gone, whatever state it was in. */
  async kill(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGKILL');
    await this.exit();
  }
}

function spawnHere(words: string[]): ChildProcess {
  return spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'] });
}

/** GET over a unix socket: status code and body. */
export function getUnix(socketPath: string, path: string): Promise<{ code: number; body: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, path }, (answer) => {
      let body = '';
      answer.setEncoding('utf8');
      answer.on('data', (text: string) => {
        body += text;
      });
      answer.on('end', () => resolve({ code: answer.statusCode!, body }));
    });
    sent.on('error', reject);
    sent.end();
  });
}
