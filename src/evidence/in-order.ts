import type { CapturedFrame } from '../wire/capture.js';

/** Captures of several interfaces come in batches: this far frames are put in the order of their times. */
const WINDOW_FRAMES = 4096;
const WINDOW_BYTES = 16 * 1024 * 1024;

/** The same frames by time, as far as a window of bounded size reaches. */
export function* inOrder(frames: Iterable<CapturedFrame>): Generator<CapturedFrame> {
  let window: CapturedFrame[] = [];
  let windowBytes = 0;
  for (const frame of frames) {
    window.push(frame);
    windowBytes += frame.bytes.length;
    if (window.length < WINDOW_FRAMES && windowBytes < WINDOW_BYTES) continue;
    window.sort(byTime);
    const leaving = window.splice(0, Math.ceil(window.length / 2));
    windowBytes = window.reduce((sum, { bytes }) => sum + bytes.length, 0);
    yield* leaving;
  }
  window.sort(byTime);
  yield* window;
  window = [];
}

function byTime(a: CapturedFrame, b: CapturedFrame): number {
  return a.atMs - b.atMs;
}

/** Two rows of frames, each in order, as one; `first` wins a tie. */
export function* merged<A, B>(
  first: Iterable<CapturedFrame>,
  asFirst: (frame: CapturedFrame) => A,
  second: Iterable<CapturedFrame>,
  asSecond: (frame: CapturedFrame) => B,
): Generator<A | B> {
  const [left, right] = [first[Symbol.iterator](), second[Symbol.iterator]()];
  let [a, b] = [left.next(), right.next()];
  try {
    while (!a.done || !b.done) {
      if (!a.done && (b.done || a.value.atMs <= b.value.atMs)) {
        yield asFirst(a.value);
        a = left.next();
      } else if (!b.done) {
        yield asSecond(b.value);
        b = right.next();
      }
    }
  } finally {
    left.return?.();
    right.return?.();
  }
}
