/** `colo-proxy explain`: why the VMs diverged, from a running proxy or from a file of evidence. */
import { ColoError } from '../errors.js';
import { capturedFrames } from '../evidence/capture-file.js';
import type { ExplainedDivergence } from '../evidence/evidence-log.js';
import { explanationText } from '../evidence/evidence-text.js';
import { askProxy, type ProxyAddress } from './ask.js';

export interface DivergencesAnswer {
  readonly seen: number;
  readonly divergences: readonly ExplainedDivergence[];
}

/** Latest first; `id` chooses one, `last` the latest alone. */
export async function explainRunning(
  address: ProxyAddress,
  choice: { readonly id?: string | undefined; readonly last?: boolean | undefined },
): Promise<string[]> {
  const { seen, divergences } = await askProxy<DivergencesAnswer>(address, '/api/divergences');
  if (choice.id !== undefined) {
    const one = divergences.find((each) => String(each.id) === choice.id);
    if (one !== undefined) return [explanationText(one)];
    throw new ColoError(
      'COLO_ERR_USAGE',
      `--id ${choice.id}: not among the ${divergences.length} kept of ${seen}`,
    );
  }
  if (divergences.length === 0) return ['The VMs have not diverged.'];
  if (choice.last) return [explanationText(divergences[0]!)];
  return divergences.map((one) => `#${one.id}  ${new Date(one.wallMs).toISOString()}  ${one.summary}`);
}

/** The comments of an evidence file, as they are found; a foreign capture has none and is refused. */
export function* explainFile(path: string): Generator<string> {
  let [frames, explained] = [0, 0];
  let trouble: string | undefined;
  for (const { comment } of capturedFrames(path, { trouble: (text) => (trouble = text) })) {
    frames++;
    // whoever wrote the file wrote the comments: nothing of them may command the terminal
    const text = comment
      ?.split('\n')
      .slice(1)
      .join('\n')
      .replace(/[^\P{Cc}\n]/gu, '?');
    if (text === undefined || text === '') continue;
    explained++;
    yield `${text}\n`;
  }
  if (explained === 0) {
    throw new ColoError('COLO_ERR_CAPTURE', `${path}: no explained divergence in ${frames} frames`);
  }
  if (trouble !== undefined) yield `The file ends early: ${trouble}.`;
}
