/** `colo-proxy compare`: two plain captures, one of each VM. */
import { readFileSync } from 'node:fs';
import { ColoError } from '../errors.js';
import { compareCaptures } from '../evidence/compare-captures.js';
import { type Capture, readCapture } from '../wire/capture.js';

const DIVERGENCES_SHOWN = 50;

/** Exit code 1 when they differ. */
export function compareFiles(
  paths: { readonly primary: string; readonly secondary: string },
  guest: string | undefined,
): { lines: string[]; exitCode: number } {
  const [primary, secondary] = [captureAt(paths.primary), captureAt(paths.secondary)];
  const { frames, released, held, divergences, guest: own } = compareCaptures(primary, secondary, guest);
  const reasons = Object.entries(released).map(([reason, count]) => `${reason} ${count}`);
  const lines = [
    `guest ${own}: ${frames.primary} frames of the primary, ${frames.secondary} of the secondary, ${frames.client} of clients`,
    `released: ${reasons.join(', ') || 'none'}; unmatched: ${held}`,
    ...divergences.slice(0, DIVERGENCES_SHOWN).map(({ summary }) => `differs: ${summary}`),
  ];
  if (divergences.length > DIVERGENCES_SHOWN)
    lines.push(`and ${divergences.length - DIVERGENCES_SHOWN} more`);
  for (const [path, { trouble }] of [
    [paths.primary, primary],
    [paths.secondary, secondary],
  ] as const) {
    if (trouble !== undefined) lines.push(`${path} ends early: ${trouble}`);
  }
  return { lines, exitCode: divergences.length > 0 || held > 0 ? 1 : 0 };
}

function captureAt(path: string): Capture {
  let file: Buffer;
  try {
    file = readFileSync(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new ColoError('COLO_ERR_CAPTURE', `${path}: cannot be read: ${code}`, { cause: error });
  }
  return readCapture(file);
}
