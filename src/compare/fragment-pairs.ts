/**
 * Which datagram of the secondary a fragmented datagram of the primary goes with. Each VM counts its own
 * identifications (T16), and the pieces of one datagram must all match pieces of one other: equal pieces of two
 * different datagrams would make a third. A table of fixed size; what falls out of it is looked at afresh.
 */
const ENTRIES = 4096;

export class FragmentPairs {
  readonly #flow = new Int32Array(ENTRIES).fill(-1);
  readonly #primaryId = new Int32Array(ENTRIES);
  readonly #secondaryId = new Int32Array(ENTRIES);

  /**
   * May a piece of the primary's datagram `primaryId` go with one of `secondaryId`? A first piece begins a datagram
   * anew: identifications come round again.
   */
  agree(flow: number, primaryId: number, secondaryId: number, isFirstPiece: boolean): boolean {
    const at = this.#at(flow, primaryId);
    if (isFirstPiece || this.#flow[at] !== flow || this.#primaryId[at] !== (primaryId | 0)) return true;
    return this.#secondaryId[at] === (secondaryId | 0);
  }

  bind(flow: number, primaryId: number, secondaryId: number): void {
    const at = this.#at(flow, primaryId);
    this.#flow[at] = flow;
    this.#primaryId[at] = primaryId;
    this.#secondaryId[at] = secondaryId;
  }

  /** A new epoch: the secondary counts as the primary does. */
  clear(): void {
    this.#flow.fill(-1);
  }

  #at(flow: number, primaryId: number): number {
    return (Math.imul(flow, 0x9e3779b1) ^ primaryId) & (ENTRIES - 1);
  }
}
