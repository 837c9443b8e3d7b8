import type { Seat } from '../dataplane/data-plane.js';
import { asColoError } from '../errors.js';
import { firstState, type KeptState, type StateFile } from '../failover/state-file.js';
import {
  type ClientTranslation,
  clientTranslations,
  restoreClientTranslations,
} from '../flow/client-translations.js';
import { type Clock, sleep, type Timer } from '../system/clock.js';
import type { Log } from '../system/log.js';
import type { Nics } from './nics.js';
import type { PairParts } from './parts.js';

/** How often it is looked whether translated connections have ended or moved; never per connection. */
const LOOK_EVERY_MS = 2000;
/** Between two attempts to write a file that could not be written. */
const RETRY_MS = 500;

interface Change {
  readonly protecting?: boolean;
}

/** Keeps the state file right: at every change of roles, and as translated connections end. */
export class Keeper {
  /** As the last process left it. */
  readonly found: KeptState;
  readonly #file: StateFile | null;
  readonly #nics: Nics;
  readonly #clock: Clock;
  readonly #log: Log;
  #saved: KeptState;
  #look: Timer | null = null;
  #isOver = false;
  /** The file does not know yet who carries the traffic: nothing may leave. */
  isBehind = false;
  /** Why the file could not be written last time, for people; empty when it could. */
  problem = '';

  /** Without a file everything is forgotten with the process. */
  constructor({ state, clock, log }: PairParts, nics: Nics) {
    this.#file = state?.file ?? null;
    this.found = state?.found ?? firstState();
    this.#saved = this.found;
    this.#nics = nics;
    this.#clock = clock;
    this.#log = log;
  }

  /** Before any frame: roles, addresses and translations of the last process. */
  restore(): void {
    const { carrier, addresses, translations } = this.found;
    const nowMs = this.#clock.now();
    for (const [nic, plane] of this.#nics.planes.entries()) {
      plane.startOn(carrier);
      const mine = translations.filter((kept) => kept.nic === nic);
      const restored = restoreClientTranslations(plane.flows, mine, nowMs);
      if (restored < mine.length) {
        this.#log.error(
          { nic, restored, kept: mine.length },
          'the flow table is too small for the connections kept',
        );
      }
      for (const { mac, ip, vlan } of addresses.filter((kept) => kept.nic === nic)) {
        plane.guest.restore({ mac: Buffer.from(mac, 'hex'), ip: Buffer.from(ip, 'hex'), vlan });
      }
    }
    if (translations.length > 0) {
      this.#log.info(
        { carrier, connections: translations.length },
        'connections from before are translated on',
      );
    }
  }

  get saved(): KeptState {
    return this.#saved;
  }

  /** In place of `restore`: an earlier process has handed everything over. */
  inherit(kept: KeptState): void {
    this.#saved = kept;
  }

  start(): void {
    this.#look = this.#clock.every(LOOK_EVERY_MS, () => this.#saveEnded());
  }

  stop(): void {
    this.#isOver = true;
    this.#look?.cancel();
  }

  /**
   * The roles have changed: resolves, in this turn if it can, when the file says so. Until then nothing leaves, since a
   * restart would go on with the other VM. A file that cannot be written is tried again until it can.
   */
  async save(change: Change): Promise<void> {
    this.isBehind = true;
    while (!this.note(change)) {
      await sleep(this.#clock, RETRY_MS);
      if (this.#isOver) return;
    }
    this.isBehind = false;
  }

  /** As `save`, but what the file says already is safe, too. False: it could not be written. */
  note(change: Change): boolean {
    try {
      this.mustSave(change);
      return true;
    } catch (error) {
      const reason = asColoError(error, 'COLO_ERR_STATE', 'state file');
      if (this.problem !== reason.message) this.#log.error({ code: reason.code }, reason.message);
      this.problem = reason.message;
      return false;
    }
  }

  /** Throws COLO_ERR_STATE: then nothing may be begun that needs it. */
  mustSave(change: Change): void {
    const state = { ...this.#saved, ...change, ...this.#present() };
    this.#file?.save(state);
    this.#saved = state;
    this.problem = '';
  }

  /** Written with the change of roles that follows a claim; only the first claim of a process has none. */
  generation(generation: number): void {
    const isFirst = this.#saved.generation === this.found.generation;
    this.#saved = { ...this.#saved, generation };
    if (isFirst) this.note({});
  }

  /** After a failover alone there is anything: the check is one comparison of what was with what is. */
  #saveEnded(): void {
    if (this.#saved.translations.length === 0) return;
    const present = this.#present();
    if (JSON.stringify(present.translations) !== JSON.stringify(this.#saved.translations)) {
      this.note({});
    }
  }

  #present(): Pick<KeptState, 'carrier' | 'addresses' | 'translations'> {
    const { planes } = this.#nics;
    const carrier: Seat = this.#nics.carrier;
    return {
      carrier,
      addresses: planes.flatMap(({ guest }, nic) =>
        guest.addresses.map(({ mac, ip, vlan }) => ({
          nic,
          mac: mac.toString('hex'),
          ip: ip.toString('hex'),
          vlan,
        })),
      ),
      translations: planes.flatMap(({ flows }, nic) =>
        clientTranslations(flows).map((kept: ClientTranslation) => ({ nic, ...kept })),
      ),
    };
  }
}
