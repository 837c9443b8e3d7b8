/** A comparator with everything it says written down, and segments of one connection told by stream positions. */
import { Comparator } from '../../../src/compare/comparator.js';
import { NO_RULES, type RuleSet } from '../../../src/compare/rules.js';
import {
  type CompareLimits,
  DEFAULT_COMPARE_LIMITS,
  type Divergence,
  type DivergenceFrame,
  type ReleaseReason,
} from '../../../src/compare/verdict.js';
import { FlowTable } from '../../../src/flow/flow-table.js';
import { buildTcp, type TcpOptions } from '../../../src/wire/build.js';
import { verifyIpv4Checksum, verifyL4Checksum } from '../../../src/wire/checksum.js';
import { FrameView, TcpFlag } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';

export const { FIN, SYN, RST, PSH, ACK, URG } = TcpFlag;

export interface Released {
  readonly bytes: Buffer;
  readonly view: FrameView;
  readonly reason: ReleaseReason;
  readonly flow: number;
  readonly heldMs: number;
}

export const TEST_LIMITS: CompareLimits = {
  ...DEFAULT_COMPARE_LIMITS,
  heldFramesMax: 4096,
  heldBytesMax: 8 << 20,
  heldBytesPerFlowMax: 2 << 20,
  flowsMax: 64,
  releasedRecordBytesMax: 1 << 20,
};

export class Harness {
  readonly flows: FlowTable;
  readonly comparator: Comparator;
  readonly released: Released[] = [];
  readonly divergences: Divergence[] = [];
  readonly divergenceFrames: DivergenceFrame[][] = [];
  nowMs = 1000;
  /** Frames carry a vnet header of this length in front. */
  vnetHeaderBytes: 0 | 10 = 0;

  constructor(limits: Partial<CompareLimits> = {}, rules: RuleSet = NO_RULES) {
    const all = { ...TEST_LIMITS, ...limits };
    this.flows = new FlowTable({ flowsMax: all.flowsMax, seed: 7, flowIdleMsMax: all.flowIdleMsMax });
    this.comparator = new Comparator(
      this.flows,
      all,
      {
        release: (bytes, offset, length, vnetHeaderBytes, flow, reason, heldMs) => {
          const copy = Buffer.from(bytes.subarray(offset - vnetHeaderBytes, offset + length));
          this.released.push({ bytes: copy, view: viewOf(copy, vnetHeaderBytes), reason, flow, heldMs });
        },
        diverged: (divergence, frames) => {
          this.divergences.push(divergence);
          this.divergenceFrames.push(frames());
        },
      },
      rules,
    );
  }

  primary(frame: Buffer): number {
    const view = this.#open(frame);
    return this.comparator.primary(view, this.flows.findOrAdd(view, false, this.nowMs), this.nowMs);
  }

  watch(frame: Buffer): void {
    const view = this.#open(frame);
    this.comparator.watch(view, this.flows.findOrAdd(view, false, this.nowMs), this.nowMs);
  }

  secondary(frame: Buffer): void {
    const view = this.#open(frame);
    this.comparator.secondary(view, this.flows.findOrAdd(view, false, this.nowMs), this.nowMs);
  }

  client(frame: Buffer): void {
    const view = this.#open(frame);
    this.comparator.fromClient(view, this.flows.findOrAdd(view, true, this.nowMs), this.nowMs);
  }

  /** A client frame, in a flow that no guest has spoken in yet. */
  clientOpens(frame: Buffer): void {
    const view = this.#open(frame);
    this.comparator.fromClient(view, this.comparator.flowFromClient(view, this.nowMs), this.nowMs);
  }

  /** The client speaks first in the flow of this frame of the guest. */
  clientFirst(guestFrame: Buffer): void {
    const view = this.#open(guestFrame);
    const l3 = view.l3;
    const [source, destination] = [
      view.bytes.subarray(l3 + 12, l3 + 16),
      view.bytes.subarray(l3 + 16, l3 + 20),
    ];
    const mirrored = Buffer.concat([destination, source]);
    mirrored.copy(view.bytes, l3 + 12);
    [view.sourcePort, view.destinationPort] = [view.destinationPort, view.sourcePort];
    this.comparator.fromClient(view, this.comparator.flowFromClient(view, this.nowMs), this.nowMs);
  }

  /** Lets time pass in steps of 5 ms. */
  pass(ms: number): void {
    for (let left = ms; left > 0; left -= 5) {
      this.nowMs += Math.min(5, left);
      this.comparator.tick(this.nowMs);
    }
  }

  commit(): void {
    this.comparator.commit(this.nowMs);
  }

  /** The slot of the only flow that tests here have, unless a frame tells another. */
  flow(frame: Buffer): number {
    return this.flows.find(this.#open(frame), false);
  }

  get reasons(): ReleaseReason[] {
    return this.released.map((frame) => frame.reason);
  }

  /** Forgets what was released so far and returns it. */
  take(): Released[] {
    return this.released.splice(0);
  }

  #open(frame: Buffer): FrameView {
    // as a link would: somewhere in a larger slab, and not the caller's bytes
    const slab = Buffer.alloc(frame.length + 64, 0xee);
    frame.copy(slab, 32);
    const view = new FrameView();
    const vnet = this.vnetHeaderBytes;
    parseFrame(slab, 32 + vnet, frame.length - vnet, vnet, view);
    return view;
  }
}

export function viewOf(frame: Buffer, vnetHeaderBytes: 0 | 10 = 0): FrameView {
  const view = new FrameView();
  parseFrame(frame, vnetHeaderBytes, frame.length - vnetHeaderBytes, vnetHeaderBytes, view);
  return view;
}

/** Are all checksums of the frame right? */
export function sound(view: FrameView): boolean {
  return verifyL4Checksum(view) && (view.ipVersion !== 4 || verifyIpv4Checksum(view.bytes, view.l3));
}

export interface SegmentFields {
  /** Position in the stream: 0 is the SYN, 1 the first byte of data. */
  readonly at?: number;
  readonly data?: Uint8Array | string;
  readonly flags?: number;
  /** Bytes of the client's stream acknowledged, its SYN included. */
  readonly ack?: number;
  readonly window?: number;
  readonly options?: TcpOptions;
  readonly id?: number;
}

/** One end of one connection: turns positions into frames in its own sequence space. */
export class Guest {
  readonly isn: number;
  readonly tsBase: number;
  readonly clientIsn: number;
  readonly ports: { readonly guest: number; readonly client: number };
  readonly ipv6: boolean;

  constructor(
    isn: number,
    tsBase = 0,
    {
      clientIsn = 5_000_000,
      guestPort = 80,
      clientPort = 40_000,
      ipv6 = false,
    }: { clientIsn?: number; guestPort?: number; clientPort?: number; ipv6?: boolean } = {},
  ) {
    this.isn = isn;
    this.tsBase = tsBase;
    this.clientIsn = clientIsn;
    this.ports = { guest: guestPort, client: clientPort };
    this.ipv6 = ipv6;
  }

  frame(fields: SegmentFields): Buffer {
    const data = typeof fields.data === 'string' ? Buffer.from(fields.data) : fields.data;
    const flags = fields.flags ?? ACK;
    return buildTcp({
      source: this.ipv6 ? 'fd00::2' : '10.0.0.2',
      destination: this.ipv6 ? 'fd00::1' : '10.0.0.1',
      sourcePort: this.ports.guest,
      destinationPort: this.ports.client,
      seq: (this.isn + (fields.at ?? 0)) >>> 0,
      ack: (flags & ACK) === 0 ? 0 : (this.clientIsn + (fields.ack ?? 1)) >>> 0,
      flags,
      window: fields.window ?? 1000,
      id: fields.id ?? 0,
      ...(fields.options === undefined ? {} : { options: fields.options }),
      ...(data === undefined ? {} : { payload: data }),
    });
  }

  /** SYN-ACK with the usual options. */
  synAck(options: TcpOptions = {}, window = 1000): Buffer {
    const timestamp = { value: this.tsBase >>> 0, echo: 77 };
    return this.frame({
      flags: SYN | ACK,
      window,
      options: { mss: 1460, windowScale: 7, sackPermitted: true, timestamp, ...options },
    });
  }

  /** The client's frame back to this guest. */
  fromClient(fields: SegmentFields): Buffer {
    const data = typeof fields.data === 'string' ? Buffer.from(fields.data) : fields.data;
    const flags = fields.flags ?? ACK;
    return buildTcp({
      source: this.ipv6 ? 'fd00::1' : '10.0.0.1',
      destination: this.ipv6 ? 'fd00::2' : '10.0.0.2',
      sourcePort: this.ports.client,
      destinationPort: this.ports.guest,
      seq: (this.clientIsn + (fields.at ?? 0)) >>> 0,
      ack: (flags & ACK) === 0 ? 0 : (this.isn + (fields.ack ?? 1)) >>> 0,
      flags,
      window: fields.window ?? 500,
      ...(fields.options === undefined ? {} : { options: fields.options }),
      ...(data === undefined ? {} : { payload: data }),
    });
  }
}

/** A connection opened by the client, both SYN-ACKs out and released. */
export function established(
  harness: Harness,
  primaryIsn = 1_000_000,
  secondaryIsn = 3_000_000,
  options: TcpOptions = {},
): { readonly p: Guest; readonly s: Guest } {
  const p = new Guest(primaryIsn, 500);
  const s = new Guest(secondaryIsn, 900);
  harness.client(p.fromClient({ flags: SYN, options: { windowScale: 7, mss: 1460 } }));
  harness.primary(p.synAck(options));
  harness.secondary(s.synAck(options));
  harness.take();
  return { p, s };
}
