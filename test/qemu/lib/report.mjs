/** What was checked and how it came out: one table for people, the same as JSON. */
export class Report {
  /** @type {{links: string, point: string, check: string, ok: boolean, seen: string, figures?: object}[]} */
  rows = [];

  constructor({ log }) {
    this.log = log;
  }

  /** Rows of one link kind. */
  forLinks(links) {
    return new Section(this, links);
  }

  add(row) {
    this.rows.push(row);
    this.log(
      `${row.ok ? 'ok  ' : 'MISS'} ${row.links.padEnd(6)} ${row.point.padEnd(16)} ${row.check}: ${row.seen}`,
    );
  }

  get misses() {
    return this.rows.filter((row) => !row.ok).length;
  }

  table() {
    const columns = ['links', 'point', 'check'];
    const width = (column) => Math.max(...this.rows.map((row) => row[column].length), column.length);
    const widths = columns.map(width);
    const line = (result, cells, seen) =>
      `${result.padEnd(5)}${cells.map((cell, i) => cell.padEnd(widths[i] + 2)).join('')}${seen}`;
    const head = line('', columns, 'seen');
    const body = this.rows.map((row) =>
      line(
        row.ok ? 'ok' : 'MISS',
        columns.map((c) => row[c]),
        firstLine(row.seen),
      ),
    );
    return [head, '-'.repeat(Math.min(head.length + 40, 120)), ...body].join('\n');
  }
}

const firstLine = (text) => text.split('\n')[0];

class Section {
  constructor(report, links, point = '') {
    this.report = report;
    this.links = links;
    this.point = point;
  }

  at(point) {
    return new Section(this.report, this.links, point);
  }

  /** @param {boolean} ok @param {string} seen @param {object} [figures] numbers for the JSON */
  expect(check, ok, seen, figures) {
    const { links, point } = this;
    this.report.add({ links, point, check, ok: Boolean(ok), seen, ...(figures ? { figures } : {}) });
    return ok;
  }

  /** Runs a job; it fails by throwing, else `judge` says whether its figures are right. */
  async job(check, promise, judge) {
    try {
      const figures = await promise;
      const { ok, seen } = judge(figures);
      this.expect(check, ok, seen, figures);
      return figures;
    } catch (error) {
      this.expect(check, false, error.message);
      return undefined;
    }
  }
}
