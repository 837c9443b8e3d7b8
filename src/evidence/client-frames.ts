/** The latest frames of the clients on one NIC, so that evidence can show what both VMs were given before they diverged. */
import type { DivergenceFrame } from '../compare/verdict.js';
import { FLOW_KEY_WORDS, flowKeyEquals, writeFlowKey } from '../wire/flow-key.js';
import type { FrameView } from '../wire/frame-view.js';
import { viewOf } from './explain.js';

/** Kept of all flows together: at 100,000 frames a second, the last 40 ms. */
const FRAMES_KEPT = 4096;
/** The beginning of a frame says enough. */
const FRAME_BYTES_KEPT = 512;
/** Told of one flow. */
const FLOW_FRAMES_MAX = 8;

export interface ClientFrame {
  readonly bytes: Buffer;
  /** Length of the whole frame. */
  readonly wireBytes: number;
  /** As DivergenceFrame.atMs. */
  readonly atMs: number;
}

export class ClientFrames {
  readonly #bytes = Buffer.alloc(FRAMES_KEPT * FRAME_BYTES_KEPT);
  readonly #wireBytes = new Int32Array(FRAMES_KEPT);
  readonly #atMs = new Float64Array(FRAMES_KEPT);
  readonly #keys = new Int32Array(FRAMES_KEPT * FLOW_KEY_WORDS);
  #count = 0;

  /** As the client sent it, before anything is translated. Allocates nothing. */
  keep(view: FrameView, nowMs: number): void {
    const { bytes, start, end } = view;
    const place = this.#count % FRAMES_KEPT;
    this.#count++;
    bytes.copy(this.#bytes, place * FRAME_BYTES_KEPT, start, Math.min(end, start + FRAME_BYTES_KEPT));
    this.#wireBytes[place] = end - start;
    this.#atMs[place] = nowMs;
    writeFlowKey(view, true, this.#keys, place * FLOW_KEY_WORDS);
  }

  /** Copies of the latest of the flow that a VM's frame belongs to, oldest first. */
  ofFlow(frame: DivergenceFrame): ClientFrame[] {
    const key = new Int32Array(FLOW_KEY_WORDS);
    writeFlowKey(viewOf(frame), false, key, 0);
    const found: ClientFrame[] = [];
    const oldest = Math.max(0, this.#count - FRAMES_KEPT);
    for (let index = this.#count - 1; index >= oldest && found.length < FLOW_FRAMES_MAX; index--) {
      const place = index % FRAMES_KEPT;
      if (flowKeyEquals(this.#keys, place * FLOW_KEY_WORDS, key, 0)) found.unshift(this.#at(place));
    }
    return found;
  }

  #at(place: number): ClientFrame {
    const start = place * FRAME_BYTES_KEPT;
    const wireBytes = this.#wireBytes[place]!;
    const bytes = this.#bytes.subarray(start, start + Math.min(wireBytes, FRAME_BYTES_KEPT));
    return { bytes: Buffer.from(bytes), wireBytes, atMs: this.#atMs[place]! };
  }
}
