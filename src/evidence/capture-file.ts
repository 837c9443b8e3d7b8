/** Captures on disk, read in pieces: memory does not grow with the file. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { ColoError } from '../errors.js';
import { type CapturedFrame, CaptureReader } from '../wire/capture.js';

/** A piece is not reused: the frames in it may be kept. */
const PIECE_BYTES = 1024 * 1024;

export interface CaptureFileReports {
  /** After each piece. */
  readonly progress?: (readBytes: number) => void;
  /** The file ends early: what libpcap says after the last good frame. */
  readonly trouble?: (text: string) => void;
}

/** Throws COLO_ERR_CAPTURE when the file cannot be read or is no capture. */
export function* capturedFrames(path: string, reports: CaptureFileReports = {}): Generator<CapturedFrame> {
  const file = readable(path, () => openSync(path, 'r'));
  try {
    const reader = new CaptureReader();
    for (;;) {
      const piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
      const readBytes = readable(path, () => readSync(file, piece));
      if (readBytes === 0) break;
      yield* named(path, reader.take(piece.subarray(0, readBytes)));
      reports.progress?.(readBytes);
      if (reader.trouble !== undefined) break;
    }
    yield* named(path, reader.end());
    if (reader.trouble !== undefined) reports.trouble?.(reader.trouble);
  } finally {
    closeSync(file);
  }
}

/** 0 for what has no size, such as a pipe. Throws COLO_ERR_CAPTURE. */
export function captureFileBytes(path: string): number {
  const file = readable(path, () => openSync(path, 'r'));
  try {
    return fstatSync(file).size;
  } finally {
    closeSync(file);
  }
}

function readable<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new ColoError('COLO_ERR_CAPTURE', `${path}: cannot be read: ${code}`, { cause: error });
  }
}

/** What is wrong with the content says in which file. */
function* named(path: string, frames: Iterable<CapturedFrame>): Generator<CapturedFrame> {
  try {
    yield* frames;
  } catch (error) {
    if (!(error instanceof ColoError)) throw error;
    throw new ColoError(error.code, `${path}: ${error.message}`, { cause: error });
  }
}
