import type { Coordinator } from '../checkpoint/coordinator.js';
import type { Relay } from '../checkpoint/relay.js';
import type { Seat } from '../dataplane/data-plane.js';
import type { Authority } from './authority.js';
import type { DiskReplication } from './disk-replication.js';
import type { PairHistory } from './history.js';
import type { Keeper } from './keeper.js';
import type { Nics } from './nics.js';
import type { PairParts } from './parts.js';
import type { Vm } from './vm.js';

/** What protection is made of and acts on. */
export interface Protectors {
  readonly parts: PairParts;
  readonly vms: Readonly<Record<Seat, Vm>>;
  readonly nics: Nics;
  readonly relay: Relay;
  readonly coordinator: Coordinator;
  readonly authority: Authority;
  readonly keeper: Keeper;
  readonly history: PairHistory;
  readonly disks: DiskReplication | null;
}
