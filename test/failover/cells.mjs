/**
 * The matrix: who dies, under which traffic, at which moment. Cells are played one after the other on one pair, so the
 * roles change seats all the time, and one connection lives through all of them.
 */
/** `frozen`: the primary is stopped (SIGSTOP) without dying: no socket closes, the heartbeat alone tells. */
export const VICTIMS = ['primary', 'secondary', 'frozen', 'proxy', 'relay', 'both'];
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
export const MOMENTS = [
  'between',
  'checkpoint-request',
  'checkpoint-reply',
  'vmstate-send',
  'vmstate-received',
  'vmstate-loaded',
];

export const nameOf = ({ victim, traffic, moment }) => `${victim}/${traffic}/${moment}`;

/** Every cell; the short ones of each kind first, *both* last, since its pair is gone afterwards. */
export function allCells() {
  const cells = MOMENTS.flatMap((moment) =>
    TRAFFIC.flatMap((traffic) => VICTIMS.map((victim) => ({ victim, traffic, moment }))),
  );
  return [
    ...cells.filter(({ victim }) => victim !== 'both'),
    ...cells.filter(({ victim }) => victim === 'both'),
  ];
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
  'both/idle/between',
];
