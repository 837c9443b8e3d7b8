import { createHash } from 'node:crypto';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { type FramePort, openTap, SLOT_OVERHEAD_BYTES } from '../../native/index.js';
import { createLink, type LinkRole } from '../../src/link/factory.js';
import type { Link } from '../../src/link/link.js';
import type { LinkOptions } from '../../src/link/options.js';
import { Collector } from '../unit/link/collect.js';
import { leaveNamespace, type Namespace, useNamespace } from './harness.js';

/** A namespace that this thread stays in for the whole suite: links open things by themselves, later. */
export function useOwnNamespace(label: string): Namespace {
  const namespace = useNamespace(label);
  beforeAll(() => namespace.enter());
  afterAll(() => leaveNamespace());
  return namespace;
}

const closers: (() => unknown)[] = [];

/** Closes, after each test, what the test opened, in reverse order. */
export function closeAfterEach(): void {
  afterEach(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  });
}

export function closeLater(close: () => unknown): void {
  closers.push(close);
}

export async function openLink(url: string, options: Partial<LinkOptions> = {}, role: LinkRole = {}) {
  const link = createLink(url, { reconnectMsMin: 5, reconnectMsMax: 50, ...options }, role);
  closeLater(() => link.close());
  const at = new Collector();
  await link.open(at);
  return { link, at };
}

const SLOT_BYTES = 65_600 + SLOT_OVERHEAD_BYTES;

/** Reads and writes single frames on a port, each with its vnet header in front. */
export class FrameReader {
  readonly port: FramePort;
  readonly #slab = Buffer.alloc(SLOT_BYTES * 16);
  readonly #offsets = new Int32Array(16);
  readonly #lengths = new Int32Array(16);

  constructor(port: FramePort) {
    this.port = port;
  }

  /** Reads at most `framesMax` frames that wait now. */
  read(framesMax = 16): Buffer[] {
    const frames: Buffer[] = [];
    while (frames.length < framesMax) {
      const wanted = Math.min(16, framesMax - frames.length);
      const count = this.port.receive(this.#slab, this.#offsets, this.#lengths, SLOT_BYTES, wanted);
      for (let index = 0; index < count; index++) {
        const offset = this.#offsets[index]!;
        frames.push(Buffer.from(this.#slab.subarray(offset - 10, offset + this.#lengths[index]!)));
      }
      if (count < wanted) break;
    }
    return frames;
  }

  /** Writes one frame; `frame` begins with its vnet header when `vnetHeaderBytes` is 10. */
  write(frame: Buffer, vnetHeaderBytes: 0 | 10 = 0): void {
    const offsets = Int32Array.of(vnetHeaderBytes);
    const lengths = Int32Array.of(frame.length - vnetHeaderBytes);
    this.port.send(frame, offsets, lengths, vnetHeaderBytes, 0, 1);
  }
}

/** Holds the character device of a TAP, as QEMU does. */
export class TapHolder extends FrameReader {
  constructor(name: string, offload: 'none' | 'checksum' | 'gso' = 'gso') {
    super(openTap({ name, vnetHeader: true, offload }));
    closeLater(() => this.port.close());
  }
}

/** Sends one frame, which begins with its vnet header when `vnetHeaderBytes` is 10, and flushes. */
export function sendNow(link: Link, frame: Buffer, vnetHeaderBytes: 0 | 10 = 0): boolean {
  const taken = link.send(frame, vnetHeaderBytes, frame.length - vnetHeaderBytes, vnetHeaderBytes);
  link.flush();
  return taken;
}

export function pause(durationMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, durationMs));
}

/** Length and hash: what a failed comparison of frames shows. */
export function digest(frame: Buffer): string {
  return `${frame.length} bytes ${createHash('sha1').update(frame).digest('hex').slice(0, 12)}`;
}
