import type { Seat } from '../dataplane/data-plane.js';
import { asColoError } from '../errors.js';
import { firstState, type KeptState, type StateFile } from '../failover/state-file.js';
import {
  type ClientTranslation,
  clientTranslations,
  restoreClientTranslations,
} from '../flow/client-translations.js';
import type { Clock, Timer } from '../system/clock.js';
import type { Log } from '../system/log.js';
import type { Nics } from './nics.js';
import type { PairParts } from './parts.js';

/** How often it is looked whether translated connections have ended or moved; never per connection. */
const LOOK_EVERY_MS = 2000;

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
    this.#look = this.#clock.every(LOOK_EVERY_MS, () => this.#saveEnded());
  }

  stop(): void {
    this.#look?.cancel();
  }

  /** On disk when it returns. A file that cannot be written is told; service comes first while this process lives. */
  save(change: { readonly generation?: number; readonly protecting?: boolean } = {}): void {
    this.#write({ ...this.#saved, ...change, ...this.#present() });
  }

  /** After a failover alone there is anything: the check is one comparison of what was with what is. */
  #saveEnded(): void {
    if (this.#saved.translations.length === 0) return;
    const present = this.#present();
    if (JSON.stringify(present.translations) !== JSON.stringify(this.#saved.translations)) {
      this.#write({ ...this.#saved, ...present });
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

  #write(state: KeptState): void {
    this.#saved = state;
    try {
      this.#file?.save(state);
    } catch (error) {
      const reason = asColoError(error, 'COLO_ERR_STATE', 'state file');
      this.#log.error({ code: reason.code }, reason.message);
    }
  }
}
