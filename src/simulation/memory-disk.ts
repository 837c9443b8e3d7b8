import { ColoError } from '../errors.js';
import { decodeState, encodeState, type KeptState, StateFile } from '../failover/state-file.js';
import type { SimulatedProcess } from './process.js';

/** The disk with the state file: it outlives every proxy of the world, and it can be full. */
export class MemoryDisk {
  isFull = false;
  #text: string;

  constructor(first: KeptState) {
    this.#text = encodeState(first);
  }

  read(): KeptState {
    return decodeState(this.#text);
  }

  /** The state file as that process has it. */
  stateFile(process: SimulatedProcess): StateFile {
    return new MemoryStateFile((state) => {
      if (this.isFull) throw new ColoError('COLO_ERR_STATE', 'the state file cannot be written: ENOSPC');
      if (!process.isDead) this.#text = encodeState(state);
    });
  }
}

class MemoryStateFile extends StateFile {
  readonly #write: (state: KeptState) => void;

  constructor(write: (state: KeptState) => void) {
    super('/world/state');
    this.#write = write;
  }

  override save(state: KeptState): void {
    this.#write(state);
  }
}
