/** The dialects by name, and `auto`, which is settled by what comes over the wire. */
import type { Dialect, DialectName } from './dialect.js';
import { upstreamDialect } from './dialect-upstream.js';
import { v8Dialect, v9Dialect, v15Dialect } from './dialects-early.js';

export const DIALECTS: Readonly<Record<DialectName, Dialect>> = {
  upstream: upstreamDialect,
  v8: v8Dialect,
  v9: v9Dialect,
  v15: v15Dialect,
};

/**
 * `auto`: upstream or v8. Both begin with four zero bytes on the secondary's side. Upstream's READY is these
 * alone, v8's goes on with 00000046. Nobody waits to find out: the four bytes are taken as READY and passed on;
 * if the other four follow, it is v8 and they are passed on as well (a v8 primary acts only on all eight); if the
 * primary says upstream's REQUEST first, it is upstream.
 */
export type DialectChoice = Dialect | 'auto';

export function dialectChoice(name: DialectName | 'auto'): DialectChoice {
  return name === 'auto' ? 'auto' : DIALECTS[name];
}
