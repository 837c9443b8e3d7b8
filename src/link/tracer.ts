import type { FrameBatch, Link, VnetHeaderBytes } from './link.js';
import { WrappedLink } from './wrapped-link.js';

/** Called with each frame; the bytes are valid only during the call. Refused frames are not shown. */
export type FrameTrace = (
  direction: 'received' | 'sent',
  bytes: Buffer,
  offset: number,
  length: number,
  vnetHeaderBytes: VnetHeaderBytes,
) => void;

/** Shows every frame of a link to a callback, before the handler sees it and after the link has taken it. */
export class Tracer extends WrappedLink {
  readonly #trace: FrameTrace;

  constructor(inner: Link, trace: FrameTrace) {
    super(inner);
    this.#trace = trace;
  }

  protected override received(batch: FrameBatch): void {
    for (let index = 0; index < batch.count; index++) {
      this.#trace(
        'received',
        batch.slab,
        batch.offsets[index]!,
        batch.lengths[index]!,
        batch.vnetHeaderBytes,
      );
    }
    super.received(batch);
  }

  override send(bytes: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean {
    const taken = super.send(bytes, offset, length, vnetHeaderBytes);
    if (taken) this.#trace('sent', bytes, offset, length, vnetHeaderBytes);
    return taken;
  }
}
