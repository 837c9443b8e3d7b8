/** Randomness is passed in like time: the same seed gives the same world. */
export interface Random {
  /** The next unsigned 32-bit number. */
  uint32(): number;
}

/** One round of 32-bit mixing (the finaliser of MurmurHash3): every input bit reaches every output bit. */
export function mix32(value: number): number {
  let hash = value | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** A 32-bit hash of a text. */
export function hashText(text: string): number {
  let hash = 0x9e3779b9;
  for (let index = 0; index < text.length; index++) hash = mix32(hash ^ text.charCodeAt(index));
  return hash >>> 0;
}

/** A counter through `mix32` twice: small, fast, seekable, good enough for schedules and payloads; not for secrets. */
export class SeededRandom implements Random {
  #state: number;

  constructor(seed: number) {
    this.#state = mix32(seed ^ 0x5bd1e995);
  }

  uint32(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    return mix32(mix32(this.#state) ^ 0x2545f491);
  }

  /** A generator of its own for one part of the world: what one part draws does not shift another's. */
  fork(label: string): SeededRandom {
    return new SeededRandom(this.uint32() ^ hashText(label));
  }
}

/** A whole number from 0 to `limit` - 1. */
export function below(random: Random, limit: number): number {
  return Math.floor((random.uint32() / 0x1_0000_0000) * limit);
}

/** True with the given probability (0 to 1). */
export function chance(random: Random, probability: number): boolean {
  return probability > 0 && random.uint32() < probability * 0x1_0000_0000;
}
