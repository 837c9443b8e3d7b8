/**
 * Generations in a directory on storage that both sides share: `PAIR.generation-N`, made by link(2), which fails when
 * somebody was faster. Its maker rewrites it (rename(2)) to renew its lease. Who wants the next generation must have
 * seen the newest file unchanged for a whole lease on its own monotonic clock, so no two clocks are compared.
 */
import { randomBytes } from 'node:crypto';
import { constants, link, open, readdir, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, sleep } from '../system/clock.js';
import type { Arbiter, ArbiterSnapshot, Claim, ClaimAnswer, Claimant, LeaseLimits } from './arbiter.js';

/** Looks at a foreign file during one lease. */
const LOOKS_PER_LEASE = 10;
const RECORD_BYTES_MAX = 4096;
/** Older generations than this behind the newest are removed. */
const GENERATIONS_KEPT = 2;

interface Newest {
  readonly generation: number;
  /** The file's text; empty for none. */
  readonly text: string;
}

export class FileArbiter implements Arbiter {
  readonly kind = 'file';
  readonly leaseMs: number;
  readonly #directory: string;
  #claimant: Claimant;
  readonly #limits: LeaseLimits;
  readonly #clock: Clock;
  #renewals = 0;
  /** The generation this process rules in, 0 for none. */
  #generation = 0;
  #heldUntilMs = Number.NEGATIVE_INFINITY;

  constructor(directory: string, claimant: Claimant, limits: LeaseLimits, clock: Clock) {
    this.#directory = directory;
    this.#claimant = claimant;
    this.#limits = limits;
    this.leaseMs = limits.leaseMs;
    this.#clock = clock;
  }

  async claim(claim: Claim, signal: AbortSignal): Promise<ClaimAnswer> {
    const newest = await this.#newest();
    const before = record(newest.text);
    const isMine = before.process === this.#claimant.process && newest.generation === this.#generation;
    if (
      newest.generation > claim.generation &&
      claim.generation > 0 &&
      before.owner !== this.#claimant.owner
    ) {
      return lost(`${before.owner || 'somebody'} has ruled since, in generation ${newest.generation}`);
    }
    if (
      newest.generation > 0 &&
      !isMine &&
      !before.released &&
      !(await this.#sleepsForALease(newest, signal))
    ) {
      return signal.aborted ? unknown('given up') : lost(`generation ${newest.generation} is being renewed`);
    }
    const startedMs = this.#clock.now();
    const generation = Math.max(newest.generation, claim.generation) + 1;
    const draft = await this.#write(false);
    try {
      await link(draft, this.#path(generation));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      return lost(`somebody else was faster to generation ${generation}`);
    } finally {
      await unlink(draft).catch(() => undefined);
    }
    const now = await this.#newest();
    if (now.generation !== generation) {
      await unlink(this.#path(generation)).catch(() => undefined);
      return lost(`generation ${now.generation} is there already`);
    }
    this.#generation = generation;
    await this.#forgetBefore(generation - GENERATIONS_KEPT);
    return this.#held(startedMs);
  }

  /** A renewal counts only if it was written before the right had run out: after that, somebody may have claimed. */
  async renew(): Promise<ClaimAnswer> {
    const startedMs = this.#clock.now();
    const newest = await this.#newest();
    if (this.#generation === 0 || newest.generation !== this.#generation) {
      return lost(`generation ${newest.generation} is there, this side ruled in ${this.#generation}`);
    }
    await rename(await this.#write(false), this.#path(this.#generation));
    if (this.#clock.now() >= this.#heldUntilMs) return lost('the lease ran out before it was renewed');
    return this.#held(startedMs);
  }

  async release(): Promise<void> {
    if (this.#generation === 0 || (await this.#newest()).generation !== this.#generation) return;
    await rename(await this.#write(true), this.#path(this.#generation));
    this.#generation = 0;
  }

  save(): ArbiterSnapshot {
    const { process } = this.#claimant;
    return {
      ...{ process, generation: this.#generation, renewals: this.#renewals },
      heldUntilMs: this.#heldUntilMs,
    };
  }

  load({ process, generation, renewals, heldUntilMs }: ArbiterSnapshot, shiftMs: number): void {
    this.#claimant = { ...this.#claimant, process: String(process) };
    this.#generation = Number(generation);
    this.#renewals = Number(renewals);
    this.#heldUntilMs = Number(heldUntilMs) + shiftMs;
  }

  #held(startedMs: number): ClaimAnswer {
    this.#heldUntilMs = startedMs + this.#limits.leaseMs - this.#limits.marginMs;
    return { outcome: 'won', generation: this.#generation, heldUntilMs: this.#heldUntilMs };
  }

  /** Is the file the same for a lease and a margin, and the newest all along? */
  async #sleepsForALease(seen: Newest, signal: AbortSignal): Promise<boolean> {
    const { leaseMs, marginMs } = this.#limits;
    const endMs = this.#clock.now() + leaseMs + marginMs;
    for (;;) {
      const now = await this.#newest();
      if (now.generation !== seen.generation || now.text !== seen.text || signal.aborted) return false;
      if (this.#clock.now() >= endMs) return true;
      await sleep(this.#clock, leaseMs / LOOKS_PER_LEASE);
    }
  }

  async #newest(): Promise<Newest> {
    const generation = Math.max(0, ...(await this.#generations()));
    if (generation === 0) return { generation, text: '' };
    return { generation, text: await readRecord(this.#path(generation)) };
  }

  async #generations(): Promise<number[]> {
    const prefix = `${this.#claimant.pair}.generation-`;
    const names = (await readdir(this.#directory)).filter((name) => name.startsWith(prefix));
    return names.map((name) => Number(name.slice(prefix.length))).filter(Number.isSafeInteger);
  }

  async #forgetBefore(generation: number): Promise<void> {
    for (const old of await this.#generations()) {
      if (old < generation) await unlink(this.#path(old)).catch(() => undefined);
    }
  }

  #path(generation: number): string {
    return join(this.#directory, `${this.#claimant.pair}.generation-${generation}`);
  }

  /** A file beside, on disk; never the same text twice. */
  async #write(released: boolean): Promise<string> {
    const path = join(this.#directory, `.${this.#claimant.pair}.${randomBytes(8).toString('hex')}`);
    const { owner, process } = this.#claimant;
    this.#renewals++;
    const file = await open(path, 'wx', 0o600);
    try {
      await file.writeFile(`${JSON.stringify({ owner, process, renewals: this.#renewals, released })}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    return path;
  }
}

/** A record is replaced whole, so what was opened does not change. Whatever else lies there is not read, or waited for. */
async function readRecord(path: string): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const status = await file.stat();
    if (!status.isFile() || status.size > RECORD_BYTES_MAX)
      throw new Error(`${path} is no record of this proxy`);
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

function record(text: string): { owner: string; process: string; released: boolean } {
  try {
    const { owner, process, released } = JSON.parse(text) as Record<string, unknown>;
    return { owner: String(owner), process: String(process), released: released === true };
  } catch {
    return { owner: '', process: '', released: false };
  }
}

function lost(detail: string): ClaimAnswer {
  return { outcome: 'lost', detail };
}

function unknown(detail: string): ClaimAnswer {
  return { outcome: 'unknown', detail };
}
