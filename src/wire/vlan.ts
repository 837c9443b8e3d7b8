import type { VlanTag } from './build-ip.js';
import { EtherType } from './numbers.js';

/** The tags behind FrameView.vlan, outer first: the outer of two is a service tag (IEEE 802.1ad). */
export function vlanTags(vlan: number): VlanTag[] {
  if (vlan === 0) return [];
  if (vlan < 4096) return [{ vid: vlan }];
  return [{ vid: Math.floor(vlan / 4096), tpid: EtherType.QINQ }, { vid: vlan % 4096 }];
}
