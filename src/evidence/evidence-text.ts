/** An explained divergence as people read it in a terminal or in a frame's comment. */
import type { ExplainedDivergence } from './evidence-log.js';

const ROW_BYTES = 16;

export function explanationText(one: ExplainedDivergence): string {
  const { summary, advice, before, primary, secondary } = one;
  const lines = [
    `#${one.id}  ${new Date(one.wallMs).toISOString()}  ${one.reason}`,
    summary,
    advice,
    '',
    ...(before.length > 0 ? ['both, before:', ...hexRows(before)] : []),
    'primary:',
    ...(primary.length > 0 ? hexRows(primary) : ['   nothing']),
    'secondary:',
    ...(secondary.length > 0 ? hexRows(secondary) : ['   nothing']),
  ];
  return lines.join('\n');
}

function hexRows(hex: string): string[] {
  const bytes = Buffer.from(hex, 'hex');
  const rows: string[] = [];
  for (let at = 0; at < bytes.length; at += ROW_BYTES) {
    const row = bytes.subarray(at, at + ROW_BYTES);
    const pairs = Array.from(row, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const text = row.toString('latin1').replace(/[^\x20-\x7e]/g, '.');
    rows.push(`   ${pairs.padEnd(ROW_BYTES * 3)} ${text}`);
  }
  return rows;
}
