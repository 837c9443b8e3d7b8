/**
 * Numbers of many things of one kind, row by row: what is known of one thing lies in a few cache lines of one page,
 * however many fields it has. Read column by column: each is a view of the same memory that begins where its field does.
 * A thing is told by the index of its row's first word: `row * rowWords`, in every column of words.
 */
export class RowTable {
  readonly rowWords: number;
  /** Of all rows, the first field's. */
  readonly words: Int32Array;
  #fields = 0;

  /** @param rowWords even; as many as the columns that will be asked for, two for a column of doubles. */
  constructor(rows: number, rowWords: number) {
    this.rowWords = rowWords;
    this.words = new Int32Array(rows * rowWords);
  }

  /** The next `count` words of a row, which lie side by side. */
  column(count = 1): Int32Array {
    return new Int32Array(this.words.buffer, 4 * this.#take(count));
  }

  /** The next two words of a row as one number of 64 bits; at `index / 2`. They must begin at an even word. */
  doubles(): Float64Array {
    return new Float64Array(this.words.buffer, 4 * this.#take(2));
  }

  #take(count: number): number {
    const first = this.#fields;
    this.#fields += count;
    if (this.#fields > this.rowWords) throw new RangeError(`a row has ${this.rowWords} words`);
    return first;
  }
}
