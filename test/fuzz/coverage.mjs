/**
 * Which code runs, from V8's own block counters (Profiler.takePreciseCoverage): no instrumented build, no dependency.
 * A reading takes some milliseconds, so it is taken after a batch of inputs and not after each.
 */
import { Session } from 'node:inspector';

export class Coverage {
  /** Kept per function: the parts [from, to, from, to ...] that never ran. */
  #unreached = new Map();
  #session = new Session();
  #isOfProduct;

  /** @param isOfProduct tells from a script's URL whether its code counts. */
  constructor(isOfProduct) {
    this.#isOfProduct = isOfProduct;
    this.#session.connect();
    this.#post('Profiler.enable');
    this.#post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** What has run since the last reading, in the form `isNews` and `learn` take. */
  take() {
    const seen = [];
    for (const { url, functions } of this.#post('Profiler.takePreciseCoverage').result) {
      if (!this.#isOfProduct(url)) continue;
      for (const { ranges } of functions) {
        const key = `${url}:${ranges[0].startOffset}:${ranges[0].endOffset}`;
        seen.push([key, unreachedParts(ranges)]);
      }
    }
    return seen;
  }

  isNews(seen) {
    return seen.some(([key, parts]) => {
      const before = this.#unreached.get(key);
      return before === undefined ? parts.isCalled : length(overlap(before, parts)) < length(before);
    });
  }

  learn(seen) {
    for (const [key, parts] of seen) {
      const before = this.#unreached.get(key);
      if (before !== undefined) this.#unreached.set(key, overlap(before, parts));
      else if (parts.isCalled) this.#unreached.set(key, parts);
    }
  }

  /** Functions called so far. */
  get functions() {
    return this.#unreached.size;
  }

  #post(method, parameters) {
    let answer;
    this.#session.post(method, parameters, (error, value) => {
      if (error) throw new Error(`${method}: ${error.message}`);
      answer = value;
    });
    return answer;
  }
}

/** V8's ranges nest, each with its count; the innermost one decides. */
function unreachedParts(ranges) {
  const parts = [];
  parts.isCalled = ranges[0].count > 0;
  const mark = (from, to) => {
    if (from >= to) return;
    if (parts.at(-1) === from) parts[parts.length - 1] = to;
    else parts.push(from, to);
  };
  const open = [];
  let at = ranges[0].startOffset;
  const closeUntil = (offset) => {
    while (open.length > 0 && open.at(-1).endOffset <= offset) {
      const range = open.pop();
      if (range.count === 0) mark(at, range.endOffset);
      at = range.endOffset;
    }
  };
  for (const range of ranges) {
    closeUntil(range.startOffset);
    if (open.length > 0 && open.at(-1).count === 0) mark(at, range.startOffset);
    at = range.startOffset;
    open.push(range);
  }
  closeUntil(Number.POSITIVE_INFINITY);
  return parts;
}

function overlap(a, b) {
  const both = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const from = Math.max(a[i], b[j]);
    const to = Math.min(a[i + 1], b[j + 1]);
    if (from < to) both.push(from, to);
    if (a[i + 1] < b[j + 1]) i += 2;
    else j += 2;
  }
  return both;
}

function length(parts) {
  let sum = 0;
  for (let at = 0; at < parts.length; at += 2) sum += parts[at + 1] - parts[at];
  return sum;
}
