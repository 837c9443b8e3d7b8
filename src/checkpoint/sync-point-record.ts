import { SyncPoint } from '../protocol/sync-point.js';

export interface SyncPointSeen {
  count: number;
  /** Milliseconds since 1970; 0: never. */
  lastAtMs: number;
}

/** How often each sync-point has come by, and when last: plain numbers, read at scrape time. */
export class SyncPointRecord {
  readonly seenByWord: Readonly<Record<SyncPoint, SyncPointSeen>>;
  total = 0;

  constructor() {
    const words = Object.values(SyncPoint).map((word) => [word, { count: 0, lastAtMs: 0 }]);
    this.seenByWord = Object.fromEntries(words) as Record<SyncPoint, SyncPointSeen>;
  }

  seen(word: SyncPoint, wallMs: number): void {
    const entry = this.seenByWord[word];
    entry.count++;
    entry.lastAtMs = wallMs;
    this.total++;
  }
}
