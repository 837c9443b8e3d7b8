/** One end of a migration connection for relay tests: keeps what it got, says what it is told. */
import type { DuplexChannel } from '../../../src/system/channel.js';
import type { ManualClock } from '../../../src/system/manual-clock.js';

export const be32 = (...codes: number[]): Buffer => {
  const bytes = Buffer.alloc(4 * codes.length);
  for (const [index, code] of codes.entries()) bytes.writeUInt32BE(code, 4 * index);
  return bytes;
};

export class ScriptedPeer {
  readonly channel: DuplexChannel;
  #chunks: Buffer[] = [];
  ended = false;
  closed = false;
  #roomWaiters: Array<() => void> = [];

  constructor(channel: DuplexChannel) {
    this.channel = channel;
    channel.attach({
      data: (chunk) => this.#chunks.push(chunk),
      ended: () => {
        this.ended = true;
      },
      drained: () => this.#room(),
      closed: () => {
        this.closed = true;
        this.#room();
      },
    });
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  get length(): number {
    return this.#chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  }

  /** What it got since the last call, in hexadecimal. */
  take(): string {
    const text = this.bytes.toString('hex');
    this.#chunks = [];
    return text;
  }

  say(...codes: number[]): void {
    this.channel.write(be32(...codes));
  }

  /** Writes with back-pressure. */
  async send(bytes: Buffer, chunkBytes = 65_536): Promise<void> {
    for (let at = 0; at < bytes.length && !this.closed; at += chunkBytes) {
      if (!this.channel.write(bytes.subarray(at, at + chunkBytes))) {
        await new Promise<void>((resolve) => this.#roomWaiters.push(resolve));
      }
    }
  }

  #room(): void {
    for (const waiter of this.#roomWaiters.splice(0)) waiter();
  }
}

/** Lets promises run, then every timer due within `durationMs`, and so on until nothing moves. */
export async function run(clock: ManualClock, durationMs = 0): Promise<void> {
  const endMs = clock.now() + durationMs;
  for (;;) {
    await new Promise((resolve) => setImmediate(resolve));
    if (!clock.step(endMs)) break;
  }
  clock.advance(Math.max(0, endMs - clock.now()));
}

/** Resolves when `condition` holds; the test's own time limit is the bound. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}
