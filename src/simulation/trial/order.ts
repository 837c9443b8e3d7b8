/**
 * Client frames reach each VM in the order in which they came to the proxy; some may be missing, none overtakes. And
 * they speak of that VM's own sequence numbers.
 */
import { otherSeat, type Seat } from '../../dataplane/data-plane.js';
import { readU32 } from '../../wire/bytes.js';
import { FrameKind, FrameView, TcpFlag } from '../../wire/frame-view.js';
import { parseFrame } from '../../wire/parse.js';
import { isSound, sourceOf } from '../frame-fields.js';
import type { NetworkStack } from '../network-stack.js';
import { connectionKey } from '../stack-state.js';
import type { World } from '../world.js';
import { markOf } from './released.js';
import type { Fail } from './violation.js';

/** More than any window of this world. */
const FAR_BYTES = 4 * 1024 * 1024;
const SEATS: readonly Seat[] = ['primary', otherSeat('primary')];

export function watchOrder(world: World, fail: Fail): void {
  const view = new FrameView();
  /** Marks of the frames that came, by network; and how far each VM has got in them. */
  const came = world.networks.map((): number[] => []);
  const reached = SEATS.map(() => world.networks.map(() => 0));
  const mark = (bytes: Buffer, offset: number, length: number): number =>
    parseFrame(bytes, offset, length, 0, view) === FrameKind.MALFORMED ? -1 : markOf(view);
  world.onCame = (frame, nic) => {
    const is = mark(frame, 0, frame.length);
    if (is >= 0) came[nic]!.push(is);
  };
  world.onTaken = (bytes, offset, length, seat, nic) => {
    const is = mark(bytes, offset, length);
    if (is < 0) return;
    if (isSound(view)) speaksOf(view, world[seat].guest.stacks[nic]!, fail);
    const far = reached[SEATS.indexOf(seat)]!;
    const at = came[nic]!.indexOf(is, far[nic]!);
    if (at < 0) fail('transcript', `a client frame reaches the VM on the seat ${seat} out of order`);
    else far[nic] = at + 1;
  };
}

/** Every position that an acknowledgement or a SACK block tells is near to what that VM has sent. */
function speaksOf(view: FrameView, stack: NetworkStack, fail: Fail): void {
  if (view.kind !== FrameKind.TCP || (view.tcpFlags & (TcpFlag.ACK | TcpFlag.RST)) !== TcpFlag.ACK) return;
  // No checksum covers the tag: one changed on its way makes this a frame of another network, which the VM ignores.
  if (view.vlan !== stack.addresses.vlan) return;
  const { state } = stack;
  const id = state.byAddress.get(connectionKey(sourceOf(view), view.sourcePort, view.destinationPort));
  const connection = id === undefined ? undefined : state.connections.get(id);
  if (connection === undefined || connection.phase === 'syn-sent') return;
  const isFar = (position: number): boolean => Math.abs((position - connection.sndUna) | 0) > FAR_BYTES;
  if (isFar(view.ack))
    fail('transcript', `an acknowledgement of ${view.ack} reaches a VM that is at ${connection.sndUna}`);
  for (let block = 0; block < view.sackBlocks; block++) {
    const from = readU32(view.bytes, view.sack + 8 * block);
    if (isFar(from)) fail('transcript', `SACK of ${from} reaches a VM that is at ${connection.sndUna}`);
  }
}
