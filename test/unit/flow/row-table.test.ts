/** Rows of numbers, read by columns. */
import { expect, it } from 'vitest';
import { RowTable } from '../../../src/flow/row-table.js';

it('keeps every field of every row apart, words and doubles', () => {
  const rows = new RowTable(3, 8);
  const first = rows.column();
  const three = rows.column(3);
  const time = rows.doubles();
  const last = rows.column();
  for (const row of [0, 8, 16]) {
    first[row] = row + 1;
    for (let word = 0; word < 3; word += 1) three[row + word] = -row - word;
    time[row >> 1] = row + 0.5;
    last[row] = row + 7;
  }
  for (const row of [0, 8, 16]) {
    expect([first[row], time[row >> 1], last[row]]).toEqual([row + 1, row + 0.5, row + 7]);
    expect([...three.subarray(row, row + 3)]).toEqual([0 - row, -row - 1, -row - 2]);
  }
});

it('refuses more fields than a row has, and doubles that begin at an odd word', () => {
  const rows = new RowTable(1, 4);
  rows.column();
  expect(() => rows.doubles()).toThrow(RangeError);
  const full = new RowTable(1, 4);
  full.column(4);
  expect(() => full.column()).toThrow(RangeError);
});
