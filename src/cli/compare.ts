/** `colo-proxy compare`: two plain captures, one of each VM. */
import { capturedFrames, captureFileBytes } from '../evidence/capture-file.js';
import { compareCaptures, type OpenCapture } from '../evidence/compare-captures.js';
import { realClock } from '../system/clock.js';
import { Progress } from './progress.js';

const DIVERGENCES_SHOWN = 50;

/** Exit code 1 when they differ. `tell` gets the progress. */
export function compareFiles(
  paths: { readonly primary: string; readonly secondary: string },
  guest: string | undefined,
  tell: (text: string) => void,
): { lines: string[]; exitCode: number } {
  const totalBytes = captureFileBytes(paths.primary) + captureFileBytes(paths.secondary);
  const endsEarly = new Map<string, string>();
  const progress = new Progress({ what: 'comparing', totalBytes, clock: realClock, out: tell });
  const opener =
    (path: string): OpenCapture =>
    () =>
      capturedFrames(path, {
        progress: (bytes) => progress.done(bytes),
        trouble: (text) => endsEarly.set(path, text),
      });
  const found = compareCaptures(opener(paths.primary), opener(paths.secondary), guest);
  const { frames, released, held, divergences, divergenceCount, guest: own } = found;
  const reasons = Object.entries(released).map(([reason, count]) => `${reason} ${count}`);
  const lines = [
    `guest ${own}: ${frames.primary} frames of the primary, ${frames.secondary} of the secondary, ${frames.client} of clients`,
    `released: ${reasons.join(', ') || 'none'}; unmatched: ${held}`,
    ...divergences.slice(0, DIVERGENCES_SHOWN).map(({ summary }) => `differs: ${summary}`),
  ];
  if (divergenceCount > DIVERGENCES_SHOWN) lines.push(`and ${divergenceCount - DIVERGENCES_SHOWN} more`);
  for (const [path, trouble] of endsEarly) lines.push(`${path} ends early: ${trouble}`);
  return { lines, exitCode: divergenceCount > 0 || held > 0 ? 1 : 0 };
}
