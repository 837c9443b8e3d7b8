/** `colo-proxy explain`: why the VMs diverged, from a running proxy or from a file of evidence. */
import { readFile } from 'node:fs/promises';
import { ColoError } from '../errors.js';
import type { ExplainedDivergence } from '../evidence/evidence-log.js';
import { explanationText } from '../evidence/evidence-text.js';
import { readCapture } from '../wire/capture.js';
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

/** The comments of an evidence file; a foreign capture has none and is refused. */
export async function explainFile(path: string): Promise<string[]> {
  let file: Buffer;
  try {
    file = await readFile(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new ColoError('COLO_ERR_CAPTURE', `${path}: cannot be read: ${code}`, { cause: error });
  }
  const { frames, trouble } = readCapture(file);
  const texts = frames.flatMap(({ comment }) => {
    // whoever wrote the file wrote the comments: nothing of them may command the terminal
    const text =
      comment
        ?.split('\n')
        .slice(1)
        .join('\n')
        .replace(/[^\P{Cc}\n]/gu, '?') ?? '';
    return text === '' ? [] : [`${text}\n`];
  });
  if (texts.length === 0) {
    throw new ColoError('COLO_ERR_CAPTURE', `${path}: no explained divergence in ${frames.length} frames`);
  }
  if (trouble !== undefined) texts.push(`The file ends early: ${trouble}.`);
  return texts;
}
