/** Small changes to an input, as every mutating fuzzer makes them: bits, numbers, pieces, words of the format, crossings. */
const NUMBERS = [0, 1, 2, 4, 5, 8, 16, 20, 32, 40, 60, 64, 0x7f, 0x80, 0xff];
const WIDE_NUMBERS = [0, 1, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];
/** Few changes and short pieces are the likelier: up to 2^3 and 2^5. */
const CHANGES_BITS = 4;
const PIECE_BITS = 6;

/**
 * @param corpus other inputs, to cross with.
 * @param tokens byte strings that mean something in the format.
 * @param random draws an unsigned 32-bit number.
 */
export function mutate(input, { corpus, tokens, bytesMax }, random) {
  let bytes = Buffer.from(input);
  const place = () => (bytes.length === 0 ? 0 : random() % bytes.length);
  const replace = (at, dropped, piece) => {
    bytes = Buffer.concat([
      bytes.subarray(0, at),
      piece,
      bytes.subarray(Math.min(bytes.length, at + dropped)),
    ]);
  };
  for (let change = 1 << (random() % CHANGES_BITS); change > 0; change--) {
    const at = place();
    const length = 1 + (random() % (1 << (random() % PIECE_BITS)));
    switch (random() % 12) {
      case 0:
        if (bytes.length > 0) bytes[at] = NUMBERS[random() % NUMBERS.length];
        break;
      case 1:
        if (bytes.length > 0) bytes[at] ^= 1 << (random() % 8);
        break;
      case 2:
        if (bytes.length > 0) bytes[at] = random();
        break;
      case 3:
        if (bytes.length > 0) bytes[at] += (random() % 33) - 16;
        break;
      case 4:
        if (at + 2 <= bytes.length)
          bytes.writeUInt16BE(WIDE_NUMBERS[random() % WIDE_NUMBERS.length] & 0xffff, at);
        break;
      case 5:
        if (at + 4 <= bytes.length) bytes.writeUInt32BE(WIDE_NUMBERS[random() % WIDE_NUMBERS.length], at);
        break;
      case 6:
        replace(at, length, Buffer.alloc(0));
        break;
      case 7: // a piece twice
        replace(at, 0, Buffer.from(bytes.subarray(at, at + length)));
        break;
      case 8: // a piece over another place
        bytes.copy(bytes, place(), at, Math.min(bytes.length, at + length));
        break;
      case 9: {
        if (tokens.length === 0) break;
        const token = tokens[random() % tokens.length];
        replace(at, random() % 2 === 0 ? 0 : token.length, token);
        break;
      }
      case 10: {
        const other = corpus[random() % corpus.length];
        const from = other.length === 0 ? 0 : random() % other.length;
        replace(at, random() % 2 === 0 ? 0 : length, other.subarray(from, from + 4 * length));
        break;
      }
      default:
        if (random() % 4 === 0) bytes = bytes.subarray(0, at);
    }
  }
  return bytes.subarray(0, bytesMax);
}
