/** The product's logger: one JSON object a line, or readable lines on a terminal. */
import { type DestinationStream, type Logger, pino, stdSerializers, stdTimeFunctions } from 'pino';
import { prettyFactory } from 'pino-pretty';
import { ColoError } from '../errors.js';
import type { Clock } from '../system/clock.js';
import { standardOutput } from '../system/log-output.js';

export interface LogOptions {
  readonly level: string;
  /** `auto`: pretty when the output is a terminal. */
  readonly format: 'auto' | 'json' | 'pretty';
  /** Fields of every line, such as the pair's name. */
  readonly base?: Record<string, unknown>;
  readonly output: DestinationStream;
  /** Whether it is a terminal. */
  readonly isTTY: boolean;
}

/** Given to what is left of the log when the program ends. */
const END_MS_MAX = 1000;

/** The log on standard output. `end` before the process ends: lines that a slow reader has not taken wait. */
export function createStandardLog(
  options: Omit<LogOptions, 'output' | 'isTTY'>,
  clock: Clock,
): { log: Logger; end(): Promise<void> } {
  const output = standardOutput(clock);
  const log = createLog({ ...options, output, isTTY: process.stdout.isTTY === true });
  output.tellLeftOut = (lines) =>
    log.warn({ lines }, 'lines of the log were left out: they were not taken for a while');
  return { log, end: () => output.end(END_MS_MAX) };
}

/** Fits the `Log` of system/log.ts. */
export function createLog(options: LogOptions): Logger {
  const isPretty = options.format === 'pretty' || (options.format === 'auto' && options.isTTY);
  return pino(
    {
      level: options.level,
      base: options.base ?? null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError, error: serializeError },
    },
    isPretty ? prettyLines(options) : options.output,
  );
}

function prettyLines({ base, output, isTTY }: LogOptions): DestinationStream {
  const pretty = prettyFactory({
    colorize: isTTY,
    ignore: Object.keys(base ?? {}).join(','),
    translateTime: 'SYS:HH:MM:ss.l',
    singleLine: true,
  });
  return { write: (line) => output.write(pretty(line)) };
}

/** A ColoError needs no stack: its code and message say everything. Others are defects and keep theirs. */
function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error; // told by another thread
  if (!(error instanceof ColoError)) return stdSerializers.err(error);
  return { code: error.code, message: error.message };
}
