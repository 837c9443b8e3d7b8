/** Bytes that arrived in chunks, taken out in the sizes a parser wants. Copies only what spans two chunks. */
export class ByteQueue {
  #chunks: Buffer[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(chunk: Buffer): void {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#length += chunk.length;
  }

  /** Exactly `count` bytes, or undefined (and nothing taken) when there are fewer. */
  take(count: number): Buffer | undefined {
    const bytes = this.peek(count);
    if (bytes !== undefined) this.#drop(count);
    return bytes;
  }

  /** As `take`, leaving the bytes in place. */
  peek(count: number): Buffer | undefined {
    if (count > this.#length) return undefined;
    if (count === 0) return Buffer.alloc(0);
    const first = this.#chunks[0]!;
    if (first.length >= count) return first.subarray(0, count);
    const joined = Buffer.concat(this.#chunks);
    this.#chunks = [joined];
    return joined.subarray(0, count);
  }

  /** The first chunk's bytes, whole or up to `countMax`; undefined when empty. */
  takeSome(countMax: number): Buffer | undefined {
    const first = this.#chunks[0];
    if (first === undefined || countMax === 0) return undefined;
    return this.take(Math.min(first.length, countMax));
  }

  #drop(count: number): void {
    this.#length -= count;
    let left = count;
    while (left > 0) {
      const first = this.#chunks[0]!;
      if (first.length > left) {
        this.#chunks[0] = first.subarray(left);
        return;
      }
      left -= first.length;
      this.#chunks.shift();
    }
  }
}
