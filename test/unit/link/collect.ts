import type { ColoError } from '../../../src/errors.js';
import type { FrameBatch, Link, LinkHandler, LinkState } from '../../../src/link/link.js';

/** A handler that keeps copies of everything: frames without, headers with their vnet header (or empty). */
export class Collector implements LinkHandler {
  readonly frames: Buffer[] = [];
  readonly vnetHeaders: Buffer[] = [];
  readonly states: LinkState[] = [];
  readonly reasons: ColoError[] = [];
  batches = 0;
  maySend?: () => boolean;

  receive(batch: FrameBatch): void {
    this.batches++;
    for (let index = 0; index < batch.count; index++) {
      const offset = batch.offsets[index]!;
      this.frames.push(Buffer.from(batch.slab.subarray(offset, offset + batch.lengths[index]!)));
      this.vnetHeaders.push(Buffer.from(batch.slab.subarray(offset - batch.vnetHeaderBytes, offset)));
    }
  }

  stateChanged(state: LinkState, reason?: ColoError): void {
    this.states.push(state);
    if (reason) this.reasons.push(reason);
  }

  get texts(): string[] {
    return this.frames.map((frame) => frame.toString('latin1'));
  }
}

export function sendFrame(link: Link, frame: Buffer | string): boolean {
  const bytes = Buffer.from(frame as string, 'latin1');
  return link.send(bytes, 0, bytes.length, 0);
}

/** Waits until `condition` holds, looking every few milliseconds; fails after `limitMs`. */
export async function until(condition: () => boolean, what: string, limitMs = 10_000): Promise<void> {
  const endMs = performance.now() + limitMs;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
