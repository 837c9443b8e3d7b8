/** `colo-proxy replay` and `learn`: what a recording says, and what other limits would have done. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { compileRules } from '../compare/rules.js';
import type { CompareLimits } from '../compare/verdict.js';
import { type RuleConfig, ruleSchema } from '../config/rule-schema.js';
import { type ConfigSource, readConfigSource } from '../config/source.js';
import { ColoError } from '../errors.js';
import { capturedFrames, captureFileBytes } from '../evidence/capture-file.js';
import { type ReplayChanges, type ReplayResult, replay } from '../evidence/replay.js';
import { realClock } from '../system/clock.js';
import type { CapturedFrame } from '../wire/capture.js';
import { Progress } from './progress.js';
import { bytesText } from './status-text.js';

/**
 * The frames of a recording: one file, or all files of one interface in a directory, oldest first. They are read as
 * they are asked for; `tell` gets the progress, and what is wrong with a file's end.
 */
export function* readRecording(
  path: string,
  nic: number,
  tell: (text: string) => void,
): Generator<CapturedFrame> {
  const files = filesAt(path, nic);
  const totalBytes = files.reduce((sum, file) => sum + captureFileBytes(file), 0);
  const progress = new Progress({ what: 'reading', totalBytes, clock: realClock, out: tell });
  for (const file of files) {
    yield* capturedFrames(file, {
      progress: (bytes) => progress.done(bytes),
      trouble: (text) => tell(`${file} ends early: ${text}\n`),
    });
  }
}

function filesAt(path: string, nic: number): string[] {
  try {
    if (!statSync(path).isDirectory()) return [path];
    const names = readdirSync(path).filter(
      (name) => name.startsWith(`record-nic${nic}-`) && name.endsWith('.pcapng'),
    );
    if (names.length === 0)
      throw new ColoError('COLO_ERR_CAPTURE', `${path}: no recording of interface ${nic} in it`);
    const numbered = names.map((name) => ({ name, parts: name.split(/[-.]/) }));
    // record-nicN-TIME-PID-NUMBER.pcapng: by time, then by number
    numbered.sort((a, b) =>
      a.parts[2]! < b.parts[2]!
        ? -1
        : a.parts[2]! > b.parts[2]!
          ? 1
          : Number(a.parts[4]) - Number(b.parts[4]),
    );
    return numbered.map(({ name }) => join(path, name));
  } catch (error) {
    if (error instanceof ColoError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new ColoError('COLO_ERR_CAPTURE', `${path}: cannot be read: ${code}`, { cause: error });
  }
}

export interface ReplayReport {
  readonly lines: readonly string[];
  /** Nothing was changed, and something was decided otherwise than recorded. */
  readonly isDifferent: boolean;
}

/** One column as recorded; a second with the changes, when there are any. */
export function replayReport(frames: Iterable<CapturedFrame>, changes: ReplayChanges): ReplayReport {
  const isChanged = changes.rules !== undefined || Object.keys(changes.limits ?? {}).length > 0;
  const columns = replay(frames, isChanged ? [{}, changes] : [{}]);
  const recorded = columns[0]!;
  const row = (name: string, read: (one: ReplayResult) => string): string =>
    `${name.padEnd(26)}${columns.map((one) => read(one).padStart(16)).join('')}`;
  const reasons = [...new Set(columns.flatMap((one) => Object.keys(one.divergencesByReason)))].sort();
  const releases = [...new Set(columns.flatMap((one) => Object.keys(one.released)))].sort();
  const lines = [
    ...(isChanged ? [`${''.padEnd(26)}${'as recorded'.padStart(16)}${'changed'.padStart(16)}`] : []),
    row('frames', (one) => String(one.frames)),
    row('epochs', (one) => String(one.epochs)),
    row('checkpoints asked for', (one) => String(one.checkpointsAsked)),
    ...reasons.map((reason) => row(`  ${reason}`, (one) => String(one.divergencesByReason[reason] ?? 0))),
    ...releases.map((reason) => row(`released: ${reason}`, (one) => String(one.released[reason] ?? 0))),
    ...(recorded.framesLeftOut > 0 ? [`${recorded.framesLeftOut} frames are missing in the recording`] : []),
    row('waived', (one) => bytesText(one.waivedBytes)),
    row('mean hold', ({ hold }) => `${(hold.sumMs / Math.max(1, hold.count)).toFixed(3)} ms`),
    row('total hold', ({ hold }) => `${(hold.sumMs / 1000).toFixed(3)} s`),
    '',
    recorded.mismatches === 0
      ? `All ${recorded.decisions} recorded decisions were made again, bit for bit.`
      : `${recorded.mismatches} of ${recorded.decisions} decisions are not what was recorded: ${recorded.mismatchTexts.join('; ')}`,
  ];
  return { lines, isDifferent: recorded.mismatches > 0 };
}

/** `MIN:MAX` in milliseconds. */
export function holdLimits(text: string | undefined): Partial<CompareLimits> {
  if (text === undefined) return {};
  const match = /^(\d{1,6}):(\d{1,6})$/.exec(text);
  const [holdMsMin, holdMsMax] = [Number(match?.[1]), Number(match?.[2])];
  if (match === null || holdMsMin < 1 || holdMsMax < holdMsMin) {
    throw new ColoError('COLO_ERR_USAGE', `--hold-ms ${text}: expected MIN:MAX such as 50:1000`);
  }
  return { holdMsMin, holdMsMax };
}

/** The rules of a YAML file with the key `rules`, such as a configuration. Throws COLO_ERR_CONFIG. */
export function readRules(path: string): RuleConfig[] {
  const refuse = (what: string): never => {
    throw new ColoError('COLO_ERR_CONFIG', what);
  };
  let source: ConfigSource;
  try {
    source = readConfigSource(path);
  } catch (error) {
    return refuse(`${path}: cannot be read: ${(error as NodeJS.ErrnoException).code ?? error}`);
  }
  if (source.problems.length > 0) return refuse(source.problems.join('\n'));
  const parsed = z.object({ rules: z.array(ruleSchema) }).safeParse(source.data);
  if (!parsed.success) {
    const lines = parsed.error.issues.map(
      ({ path: key, message }) => `${source.valueAt(key)}: ${key.map(String).join('.')}: ${message}`,
    );
    return refuse(lines.join('\n'));
  }
  try {
    compileRules(parsed.data.rules);
  } catch (error) {
    return refuse(`${path}: ${error instanceof Error ? error.message : error}`);
  }
  return parsed.data.rules;
}
