/**
 * A ring of pcapng files in one directory, bounded in bytes and age. Frames are queued in memory, bounded, and written
 * in the background; a disk that fails pauses the writing and nothing else.
 */
import { appendFile, mkdir, readdir, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { asColoError, type ColoError } from '../errors.js';
import type { Clock } from '../system/clock.js';
import { type CaptureInterface, fileHeader, LINK_TYPE_ETHERNET, packetBlock } from './pcapng-blocks.js';

/** Interfaces of evidence: where a frame came from. */
export const EVIDENCE_INTERFACES: readonly CaptureInterface[] = ['client', 'primary', 'secondary'].map(
  (name) => ({
    name,
    linkType: LINK_TYPE_ETHERNET,
  }),
);

export interface RingLimits {
  /** All files together; the oldest go first. */
  readonly bytesMax: number;
  readonly ageMsMax: number;
}

export interface RingFrame {
  /** Name of one of the ring's interfaces. */
  readonly source: string;
  readonly wallMs: number;
  readonly bytes: Uint8Array;
  readonly wireBytes: number;
  readonly comment?: string;
}

export interface RingStatus {
  readonly writtenBytes: number;
  /** The disk was too slow, or failed. */
  readonly framesLeftOut: number;
  /** Times a file could not be written; writing pauses, service goes on. */
  readonly writeFailures: number;
}

export interface RingParts {
  readonly directory: string;
  /** Of every file, in order. */
  readonly interfaces: readonly CaptureInterface[];
  /** What each file begins with, as one more frame: it can be read without the others. */
  readonly opening?: () => RingFrame;
  /** What tells that this many frames are missing before the next one; not told unless given. */
  readonly gap?: (frames: number) => RingFrame;
  /** Beginning of the file names. */
  readonly prefix: string;
  /** Written into each file. */
  readonly application: string;
  readonly limits: RingLimits;
  readonly clock: Clock;
  /** Called once for each row of failures. */
  readonly failed: (error: ColoError) => void;
}

/** The ring is this many files, so that dropping the oldest loses little. */
const FILES = 8;
/** Waiting for the disk; beyond it frames are left out and counted. */
const QUEUE_BYTES_MAX = 8 * 1024 * 1024;
const RETRY_MS = 30_000;

export class CaptureRing {
  writtenBytes = 0;
  failures = 0;
  leftOutFrames = 0;
  readonly #parts: RingParts;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #queuedFrames = 0;
  #working: Promise<void> | null = null;
  #file: string | null = null;
  #fileBytes = 0;
  #pausedUntilMs = 0;
  #isFailing = false;
  #number = 0;
  /** Since the last frame that was taken. */
  #missingFrames = 0;

  constructor(parts: RingParts) {
    this.#parts = parts;
  }

  /** The file that is being written, or will be; null while the disk fails. */
  get currentFile(): string | null {
    if (this.#isFailing) return null;
    this.#file ??= this.#nextFile();
    return this.#file;
  }

  /** Never waits and never throws. */
  write(frame: RingFrame): void {
    const queueBytesMax = Math.min(QUEUE_BYTES_MAX, this.#parts.limits.bytesMax / FILES);
    if (this.#queuedBytes > queueBytesMax || this.#parts.clock.now() < this.#pausedUntilMs) {
      this.#missingFrames++;
      this.leftOutFrames++;
      return;
    }
    if (this.#missingFrames > 0 && this.#parts.gap !== undefined)
      this.#add(this.#parts.gap(this.#missingFrames));
    this.#missingFrames = 0;
    this.#add(frame);
    this.#working ??= this.#drain();
  }

  status(): RingStatus {
    const { writtenBytes, leftOutFrames, failures } = this;
    return { writtenBytes, framesLeftOut: leftOutFrames, writeFailures: failures };
  }

  #add(frame: RingFrame): void {
    const block = this.#blockOf(frame);
    this.#queue.push(block);
    this.#queuedBytes += block.length;
    this.#queuedFrames++;
  }

  /** Resolves when everything queued is written or given up. */
  async close(): Promise<void> {
    await this.#working;
  }

  async #drain(): Promise<void> {
    await Promise.resolve(); // the frames of one divergence go in one write
    while (this.#queue.length > 0) {
      const chunk = Buffer.concat(this.#queue);
      const frames = this.#queuedFrames;
      this.#queue = [];
      this.#queuedBytes = 0;
      this.#queuedFrames = 0;
      try {
        await this.#append(chunk);
        this.#isFailing = false;
      } catch (error) {
        this.#missingFrames += frames;
        this.leftOutFrames += frames;
        await this.#cutBack();
        this.#fail(error);
      }
    }
    this.#working = null;
  }

  async #append(chunk: Buffer): Promise<void> {
    const { directory, limits, application } = this.#parts;
    this.#file ??= this.#nextFile();
    const path = join(directory, this.#file);
    if (this.#fileBytes === 0) {
      await mkdir(directory, { recursive: true, mode: 0o750 });
      await this.#makeRoom();
      const opening = this.#parts.opening?.();
      const parts = [fileHeader(application, this.#parts.interfaces)];
      if (opening !== undefined) parts.push(this.#blockOf(opening));
      const header = Buffer.concat(parts);
      await appendFile(path, header, { mode: 0o640 });
      this.#fileBytes = header.length;
    }
    await appendFile(path, chunk);
    this.#fileBytes += chunk.length;
    this.writtenBytes += chunk.length;
    if (this.#fileBytes >= limits.bytesMax / FILES) this.#file = null;
    if (this.#file === null) this.#fileBytes = 0;
  }

  /** What a failed write left of its blocks goes: the file ends with its last whole one, or was never begun. */
  async #cutBack(): Promise<void> {
    const path = join(this.#parts.directory, this.#file!);
    const cut = this.#fileBytes === 0 ? rm(path, { force: true }) : truncate(path, this.#fileBytes);
    await cut.catch(() => undefined); // the failure of the write is told
  }

  /** Removes the oldest files until the next one fits, and those that are too old. */
  async #makeRoom(): Promise<void> {
    const { directory, prefix, limits, clock } = this.#parts;
    const names = (await readdir(directory)).filter(
      (name) => name.startsWith(`${prefix}-`) && name.endsWith('.pcapng'),
    );
    const files = await Promise.all(
      names.map(async (name) => {
        const { size, mtimeMs } = await stat(join(directory, name));
        return { name, size, mtimeMs };
      }),
    );
    files.sort((a, b) => a.mtimeMs - b.mtimeMs);
    let total = files.reduce((sum, file) => sum + file.size, 0);
    const room = limits.bytesMax - limits.bytesMax / FILES;
    for (const file of files) {
      if (total <= room && clock.wallMs() - file.mtimeMs <= limits.ageMsMax) break;
      await rm(join(directory, file.name), { force: true });
      total -= file.size;
    }
  }

  #blockOf({ source, wallMs, bytes, wireBytes, comment }: RingFrame): Buffer {
    const index = this.#parts.interfaces.findIndex(({ name }) => name === source);
    return packetBlock({
      interface: index,
      wallMs,
      bytes,
      wireBytes,
      ...(comment === undefined ? {} : { comment }),
    });
  }

  #nextFile(): string {
    const time = new Date(this.#parts.clock.wallMs()).toISOString().replace(/[-:]/g, '').slice(0, 15);
    this.#number++;
    return `${this.#parts.prefix}-${time}-${process.pid}-${this.#number}.pcapng`;
  }

  #fail(error: unknown): void {
    this.failures++;
    this.#file = null;
    this.#fileBytes = 0;
    this.#pausedUntilMs = this.#parts.clock.now() + RETRY_MS;
    if (this.#isFailing) return;
    this.#isFailing = true;
    this.#parts.failed(asColoError(error, 'COLO_ERR_EVIDENCE', this.#parts.directory));
  }
}
