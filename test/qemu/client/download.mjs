import crypto from 'node:crypto';
import http from 'node:http';
import { GapMeter } from './gap-meter.mjs';
import { FILES, pattern } from './pattern.mjs';

/** One HTTP download whose bytes are compared with what they must be. */
export class Download {
  received = 0;
  gap = new GapMeter();

  /** @param {{host: string, path: string, msMax: number}} options */
  constructor({ host, path, msMax }) {
    const [, , bytes, seed] = path.split('/');
    const expected = FILES[path] ?? { bytes: Number(bytes), seed: Number(seed) };
    this.bytes = expected.bytes;
    this.done = this.#fetch(host, path, msMax, pattern(expected.seed, expected.bytes));
    this.done.catch(() => {}); // told to whoever asks for the result
  }

  #fetch(host, path, msMax, expected) {
    const started = performance.now();
    return new Promise((resolve, reject) => {
      const fail = (error) =>
        reject(
          new Error(`${path} from ${host}: ${error.message} after ${this.received} of ${this.bytes} bytes`),
        );
      const request = http.get({ host, path, agent: false }, (response) => {
        const hash = crypto.createHash('sha256');
        response.on('data', (chunk) => {
          this.gap.mark();
          const wrong = firstDifference(chunk, expected.content, this.received);
          if (wrong >= 0) request.destroy(new Error(`wrong byte at ${wrong}`));
          hash.update(chunk);
          this.received += chunk.length;
        });
        response.on('error', fail);
        response.on('end', () => {
          clearTimeout(timer);
          const sha256 = hash.digest('hex');
          if (sha256 !== expected.sha256) return fail(new Error('wrong sha256'));
          resolve({ bytes: this.received, sha256, ms: performance.now() - started, gapMs: this.gap.msMax });
        });
      });
      const timer = setTimeout(() => request.destroy(new Error(`not complete within ${msMax} ms`)), msMax);
      request.on('error', (error) => {
        clearTimeout(timer);
        fail(error);
      });
    });
  }
}

/** The offset of the first byte of `chunk` that is not what stands at `offset` in `expected`, or -1. */
function firstDifference(chunk, expected, offset) {
  const wanted = expected.subarray(offset, offset + chunk.length);
  if (chunk.equals(wanted)) return -1;
  for (let i = 0; i < chunk.length; i++) if (chunk[i] !== wanted[i]) return offset + i;
  return offset + wanted.length;
}
