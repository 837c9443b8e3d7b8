/** Why the VMs diverged, in words: from the divergence and both sides' frames. */
import type { Divergence, DivergenceFrame, DivergenceReason } from '../compare/verdict.js';
import { FrameKind, FrameView } from '../wire/frame-view.js';
import { parseFrame } from '../wire/parse.js';
import { decodeField } from './decoders.js';

/** Bytes shown before the first that differs; they are the same on both sides. */
const BEFORE_BYTES = 48;
const AFTER_BYTES = 48;

export interface Explanation {
  /** One line: what differs. */
  readonly summary: string;
  /** `HTTP header Date`; undefined when no decoder knows. */
  readonly field: string | undefined;
  /** What both sides have before the position, and each side's bytes from it on. */
  readonly before: Uint8Array;
  readonly primary: Uint8Array;
  readonly secondary: Uint8Array;
  /** What usually leads to this, and what can be done. */
  readonly advice: string;
}

const WHAT: Readonly<Record<DivergenceReason, string>> = {
  payload: 'the bytes differ',
  length: 'one side ends before the other',
  flags: 'SYN, FIN or RST of one side contradicts the other',
  'syn-options': 'the options of the two SYNs disagree',
  retransmission: 'bytes were repeated with other content than clients have seen',
  'primary-only': 'only the primary sent something',
  'secondary-only': 'only the secondary sent something',
  unknown: 'traffic of a kind that cannot be compared waits for a checkpoint',
  rule: 'a rule says that this traffic waits for a checkpoint',
  limit: 'what is held back reached a limit',
};

const ADVICE: Readonly<Record<DivergenceReason, string>> = {
  payload: 'The guests computed different bytes: time, random numbers or timing of threads.',
  length: 'The guests cut their output differently or one closed earlier: timing, or an earlier difference.',
  flags:
    'One guest opened, closed or reset the connection and the other did not: timing, or a full accept queue.',
  'syn-options': 'The guests are set up differently, or one answers with SYN cookies.',
  retransmission: 'The guest repeated other bytes than before, which no TCP does: look at the frames.',
  'primary-only':
    'The secondary is slower than compare.holdMsMax, lost a frame, or its program took another way.',
  'secondary-only': 'The primary is slower than the secondary, or its program took another way.',
  unknown: 'This protocol is held until the next checkpoint; a rule may waive it.',
  rule: 'Nothing is wrong: the rule chose this instead of comparing.',
  limit: 'Raise compare.held* or look why so much is held back.',
};

/** Fields that are known to differ between two running guests, and why. */
const FIELD_ADVICE: readonly (readonly [pattern: RegExp, advice: string])[] = [
  [
    /^HTTP header Date$/i,
    'The clocks of the guests show different seconds; it costs a checkpoint at most once a second.',
  ],
  [
    /^HTTP header (Set-Cookie|ETag|X-Request-Id)/i,
    'A random or per-process value: the guests draw different ones.',
  ],
  [/^TLS (Server|Client)Hello/, 'Random numbers and keys: every new TLS connection differs once.'],
  [/^TLS /, 'Encrypted with keys that differ; the connection began between two checkpoints.'],
  [/^SSH key exchange/, 'A random cookie: every new SSH connection differs once.'],
  [/^DNS id/, 'A random query id: every query of the guest differs.'],
  [/^NTP /, 'Each guest writes its own time.'],
];

/** Never throws: what cannot be decoded is shown as bytes. */
export function explain(divergence: Divergence, frames: readonly DivergenceFrame[]): Explanation {
  const { reason, flow, offset } = divergence;
  const primary = around('primary', divergence, frames);
  const secondary = around('secondary', divergence, frames);
  const field = primary?.field ?? secondary?.field;
  const place = offset >= 0 ? ` at byte ${offset}` : '';
  const fieldText = field === undefined ? '' : `${field}: `;
  return {
    summary: `${fieldText}${WHAT[reason]} (${flow}${place})`,
    field,
    before: primary?.before ?? secondary?.before ?? new Uint8Array(0),
    primary: primary?.after ?? divergence.primaryBytes,
    secondary: secondary?.after ?? divergence.secondaryBytes,
    advice:
      FIELD_ADVICE.find(([pattern]) => field !== undefined && pattern.test(field))?.[1] ?? ADVICE[reason],
  };
}

interface Around {
  readonly before: Uint8Array;
  readonly after: Uint8Array;
  readonly field: string | undefined;
}

/** Read as a whole frame, of which the copy may be the beginning alone: its end is taken for zeros. */
export function viewOf({ bytes, wireBytes }: DivergenceFrame): FrameView {
  const whole = Buffer.alloc(wireBytes);
  bytes.copy(whole);
  const view = new FrameView();
  parseFrame(whole, 0, wireBytes, 0, view);
  return view;
}

/** The side's frame that holds the position; for one-sided output its first frame with payload. */
function around(
  side: DivergenceFrame['side'],
  divergence: Divergence,
  frames: readonly DivergenceFrame[],
): Around | undefined {
  for (const frame of frames) {
    if (frame.side !== side) continue;
    const captured = Math.min(frame.payloadBytes, frame.bytes.length - frame.payloadAt);
    const at = divergence.offset < 0 ? 0 : (divergence.offset - frame.position) | 0;
    if (at < 0 || at >= captured) continue;
    const payload = frame.bytes.subarray(frame.payloadAt, frame.payloadAt + captured);
    const view = viewOf(frame);
    const isTcp = view.kind === FrameKind.TCP;
    const isKnown = isTcp || view.kind === FrameKind.UDP;
    const input = { payload, at, isTcp };
    return {
      before: payload.subarray(Math.max(0, at - BEFORE_BYTES), at),
      after: payload.subarray(at, at + AFTER_BYTES),
      field: isKnown
        ? (decodeField({ ...input, guestPort: view.sourcePort }) ??
          decodeField({ ...input, guestPort: view.destinationPort }))
        : undefined,
    };
  }
  return undefined;
}
