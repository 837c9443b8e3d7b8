import { readU16 } from './bytes.js';
import { FrameKind, type FrameView } from './frame-view.js';
import { ETHER_TYPE_MIN, ETHERNET_HEADER_BYTES, EtherType, VLAN_TAG_BYTES } from './numbers.js';

const TAGS_MAX = 2;
/** Largest value that is a length; between it and ETHER_TYPE_MIN nothing is defined (IEEE 802.3 3.2.6). */
const LENGTH_MAX = 1500;
const LLC_STP = 0x4242;
const LLC_SNAP = 0xaaaa;

function isTag(etherType: number): boolean {
  return etherType === EtherType.VLAN || etherType === EtherType.QINQ || etherType === EtherType.QINQ_OLD;
}

/**
 * Ethernet II or 802.3, with up to two VLAN tags. Fills etherType, vlan and network. Returns the kind when the
 * frame is settled by this, or -1 when the EtherType names a protocol to parse further.
 *
 * A tag with VID 0 carries only a priority (802.1Q 9.6): the frame belongs to no VLAN.
 */
export function parseEthernet(view: FrameView): FrameKind | -1 {
  const { bytes, start, end } = view;
  if (end - start < ETHERNET_HEADER_BYTES) return FrameKind.MALFORMED;
  let at = start + ETHERNET_HEADER_BYTES;
  let etherType = readU16(bytes, at - 2);
  let vlan = 0;
  for (let tags = 0; tags < TAGS_MAX && isTag(etherType); tags++) {
    if (end - at < VLAN_TAG_BYTES) return FrameKind.MALFORMED;
    vlan = vlan * 4096 + (readU16(bytes, at) & 0x0fff);
    etherType = readU16(bytes, at + 2);
    at += VLAN_TAG_BYTES;
  }
  view.vlan = vlan;
  view.etherType = etherType;
  view.network = at;
  if (etherType < ETHER_TYPE_MIN) return parseLlc(view, etherType);
  return -1;
}

/** 802.3 with LLC: only spanning tree is known, in its own encapsulation and in the per-VLAN one over SNAP. */
function parseLlc(view: FrameView, length: number): FrameKind {
  const { bytes, end, network } = view;
  if (length > LENGTH_MAX || length > end - network) return FrameKind.MALFORMED;
  if (length < 3) return FrameKind.OTHER;
  const access = readU16(bytes, network);
  if (access === LLC_STP) return FrameKind.LINK_CONTROL;
  if (access === LLC_SNAP && length >= 8) {
    const isPerVlanStp =
      readU16(bytes, network + 3) === 0x0000 &&
      bytes[network + 5] === 0x0c &&
      readU16(bytes, network + 6) === 0x010b;
    if (isPerVlanStp) return FrameKind.LINK_CONTROL;
  }
  return FrameKind.OTHER;
}
