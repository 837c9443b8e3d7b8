/** Bytes in order, as plain data: a guest's state is copied whole at every checkpoint. */
export interface ByteQueue {
  readonly chunks: Uint8Array[];
  bytes: number;
}

export function newByteQueue(): ByteQueue {
  return { chunks: [], bytes: 0 };
}

/** Appends without copying: the caller gives the bytes away. */
export function append(queue: ByteQueue, bytes: Uint8Array): void {
  if (bytes.length === 0) return;
  queue.chunks.push(bytes);
  queue.bytes += bytes.length;
}

/** Copies up to `length` bytes that begin `offset` bytes behind the queue's front. */
export function peek(queue: ByteQueue, offset: number, length: number): Uint8Array {
  const target = new Uint8Array(Math.max(0, Math.min(length, queue.bytes - offset)));
  let filled = 0;
  let skip = offset;
  for (const chunk of queue.chunks) {
    if (filled === target.length) break;
    if (skip >= chunk.length) {
      skip -= chunk.length;
      continue;
    }
    const part = chunk.subarray(skip, skip + target.length - filled);
    target.set(part, filled);
    filled += part.length;
    skip = 0;
  }
  return target;
}

/** Throws away `length` bytes at the front. */
export function discard(queue: ByteQueue, length: number): void {
  let rest = Math.min(length, queue.bytes);
  queue.bytes -= rest;
  let whole = 0;
  while (rest > 0) {
    const chunk = queue.chunks[whole]!;
    if (chunk.length > rest) {
      queue.chunks[whole] = chunk.subarray(rest);
      break;
    }
    rest -= chunk.length;
    whole++;
  }
  queue.chunks.splice(0, whole);
}

/** Takes everything out. */
export function takeAll(queue: ByteQueue): Uint8Array {
  const bytes = peek(queue, 0, queue.bytes);
  queue.chunks.length = 0;
  queue.bytes = 0;
  return bytes;
}
