import { buildIp, type IpFields } from '../wire/build-ip.js';
import { fragmentId, fragmentOffset, hasMoreFragments } from '../wire/fragment.js';
import type { FrameView } from '../wire/frame-view.js';
import { addressKey } from './stack-state.js';

const MTU_BYTES = 1500;
const UNIT_BYTES = 8;
/** Fewer than a machine of this world has identifications (FRAGMENT_ID_MASK): one that is known has not come around. */
const DATAGRAMS_MAX = 12;

/**
 * A datagram whose pieces come in, as plain data. One that is whole is remembered without its pieces: a piece that was
 * doubled on its way begins no new datagram, to be taken for one of the next with that identification.
 */
export interface Pieces {
  readonly pieces: { readonly offset: number; readonly bytes: Uint8Array }[];
  /** -1: the last piece is not here. */
  totalBytes: number;
  isWhole: boolean;
}

/** `l4` as it leaves: one frame when it fits, else as many fragments as it takes. */
export function cutDatagram(fields: IpFields, protocol: number, l4: Uint8Array): Buffer[] {
  const isIpv6 = fields.source.length === 16;
  if (l4.length <= MTU_BYTES - (isIpv6 ? 40 : 20)) return [buildIp(fields, protocol, l4)];
  const room = Math.floor((MTU_BYTES - (isIpv6 ? 48 : 20)) / UNIT_BYTES) * UNIT_BYTES;
  const frames: Buffer[] = [];
  for (let offset = 0; offset < l4.length; offset += room) {
    const fragment = { offset, more: offset + room < l4.length };
    const piece = l4.subarray(offset, offset + room);
    frames.push(buildIp({ ...fields, dontFragment: false, fragment }, protocol, piece));
  }
  return frames;
}

/** Takes one fragment. Returns the bytes behind the IP header when it makes its datagram whole, else null. */
export function takeFragment(table: Map<string, Pieces>, view: FrameView): Buffer | null {
  const [from, to] = view.ipVersion === 4 ? [12, 20] : [8, 40];
  const addresses = view.bytes.subarray(view.l3 + from, view.l3 + to);
  const key = `${addressKey(addresses)}:${view.ipProtocol}:${fragmentId(view)}`;
  let datagram = table.get(key);
  if (datagram === undefined) {
    if (table.size >= DATAGRAMS_MAX) table.delete(table.keys().next().value!); // the oldest
    datagram = { pieces: [], totalBytes: -1, isWhole: false };
    table.set(key, datagram);
  }
  const offset = fragmentOffset(view);
  if (datagram.isWhole || datagram.pieces.some((piece) => piece.offset === offset)) return null;
  const bytes = Uint8Array.prototype.slice.call(view.bytes, view.payload, view.payload + view.payloadBytes);
  datagram.pieces.push({ offset, bytes });
  if (!hasMoreFragments(view)) datagram.totalBytes = offset + bytes.length;
  datagram.pieces.sort((a, b) => a.offset - b.offset);
  let end = 0;
  for (const piece of datagram.pieces) if (piece.offset === end) end += piece.bytes.length;
  if (end !== datagram.totalBytes) return null;
  datagram.isWhole = true;
  return Buffer.concat(datagram.pieces.splice(0).map((piece) => piece.bytes));
}
