/**
 * A packet socket may send MTU + 14 bytes, and 4 more only behind an 802.1Q tag (net/packet/af_packet.c,
 * packet_snd): a full-size frame with an 802.1ad and an 802.1Q tag fits only an interface whose MTU is 8 larger
 * than the VM's. A TAP does not tell its VM the MTU, so that nobody else notices.
 */
export const TWO_TAGS_BYTES = 8;

const MARK = 'colo-proxy:';

/** The alias that marks a TAP as made by that instance of the proxy. */
export function tapMark(instance: string): string {
  return MARK + instance;
}

/** The MTU of the VM behind an interface: less the room for tags, where a proxy made it. */
export function vmMtuBytes(interfaceMtuBytes: number, alias: string): number {
  return alias.startsWith(MARK) ? interfaceMtuBytes - TWO_TAGS_BYTES : interfaceMtuBytes;
}
