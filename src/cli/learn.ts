import { type Proposal, proposals } from '../evidence/learn.js';
import { replay } from '../evidence/replay.js';
import type { CapturedFrame } from '../wire/capture.js';

/** `colo-proxy learn`: ranked, nothing is applied. */
export function learnLines(frames: Iterable<CapturedFrame>): string[] {
  const { divergences, checkpointsAsked } = replay(frames)[0]!;
  const found = proposals(divergences);
  if (found.length === 0) return ['Nothing has diverged: there is nothing to propose.'];
  return [
    `${divergences.length} divergences asked for ${checkpointsAsked} checkpoints. Sources, by the checkpoints that each alone has cost:`,
    '',
    ...found.flatMap(proposalLines),
    'Nothing was changed. A waiver is written into the configuration by a person who can say why it is right.',
  ];
}

function proposalLines(one: Proposal, index: number): string[] {
  return [
    `${index + 1}. ${one.source}: ${one.checkpointsSaved} checkpoints saved, ${one.divergences} divergences`,
    `   such as ${one.example.reason} in ${one.example.flow}${one.example.offset < 0 ? '' : ` at byte ${one.example.offset}`}`,
    `   rule: ${one.rule}`,
    `   waiving it gives up: ${one.givesUp}`,
    ...(one.decoder === null
      ? []
      : [`   decoder: ${one.decoder}; one would say whether waiving is right, and gives up nothing`]),
    '',
  ];
}
