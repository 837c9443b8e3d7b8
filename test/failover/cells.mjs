/**
 * The matrix: who dies, under which traffic, at which moment. Cells are played one after the other on one pair, so the
 * roles change seats all the time, and one connection lives through all of them.
 */
import { WORDS } from '../qemu/lib/word-stop.mjs';

/** `frozen`, `frozen-secondary`: stopped (SIGSTOP) without dying: no socket closes, the heartbeat alone tells. */
export const VICTIMS = ['primary', 'secondary', 'frozen', 'proxy', 'relay', 'both', 'frozen-secondary'];
export const TRAFFIC = [
  'idle',
  'download',
  'upload',
  'short',
  'younger',
  'older',
  'guest-opened',
  'udp',
  'ipv6',
];
export const MOMENTS = ['between', ...WORDS];

export const nameOf = ({ victim, traffic, moment }) => `${victim}/${traffic}/${moment}`;

/** Every cell; *both* last, since its pair is gone afterwards. */
export function allCells() {
  const cells = MOMENTS.flatMap((moment) =>
    TRAFFIC.flatMap((traffic) => VICTIMS.map((victim) => ({ victim, traffic, moment }))),
  );
  return [
    ...cells.filter(({ victim }) => victim !== 'both'),
    ...cells.filter(({ victim }) => victim === 'both'),
  ];
}

/** `between`, or on which side of the proxy's own work at the word: every victim and moment has both. */
export function whenOf({ victim, traffic, moment }) {
  if (moment === 'between') return 'between';
  return (VICTIMS.indexOf(victim) + TRAFFIC.indexOf(traffic)) % 2 === 0 ? 'after' : 'before';
}

/** A few that between them touch every victim, traffic and moment. */
export const SHORT_CELLS = [
  'primary/download/between',
  'primary/idle/vmstate-send',
  'primary/udp/between',
  'secondary/ipv6/between',
  'primary/younger/checkpoint-reply',
  'secondary/upload/vmstate-received',
  'proxy/older/between',
  'primary/guest-opened/vmstate-loaded',
  'relay/short/checkpoint-request',
  'frozen/download/between',
  'frozen/idle/vmstate-send',
  'frozen-secondary/idle/vmstate-received',
  'both/idle/between',
];
