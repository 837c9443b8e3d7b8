/** The product's logger: one JSON object a line, or readable lines on a terminal. Written synchronously, in order. */
import {
  type DestinationStream,
  destination,
  type Logger,
  pino,
  stdSerializers,
  stdTimeFunctions,
} from 'pino';
import pretty from 'pino-pretty';
import { ColoError } from '../errors.js';

export interface LogOptions {
  readonly level: string;
  /** `auto`: pretty when the output is a terminal. */
  readonly format: 'auto' | 'json' | 'pretty';
  /** Fields of every line, such as the pair's name. */
  readonly base?: Record<string, unknown>;
  /** Standard output unless given. */
  readonly output?: NodeJS.WritableStream & { readonly isTTY?: boolean };
}

/** Fits the `Log` of system/log.ts. */
export function createLog(options: LogOptions): Logger {
  const output = options.output ?? process.stdout;
  const isPretty = options.format === 'pretty' || (options.format === 'auto' && output.isTTY === true);
  return pino(
    {
      level: options.level,
      base: options.base ?? null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError, error: serializeError },
    },
    isPretty ? prettyStream(options, output) : jsonStream(options),
  );
}

function prettyStream(options: LogOptions, output: NonNullable<LogOptions['output']>): DestinationStream {
  return pretty({
    destination: options.output ?? 1,
    colorize: output.isTTY === true,
    sync: true,
    ignore: Object.keys(options.base ?? {}).join(','),
    translateTime: 'SYS:HH:MM:ss.l',
    singleLine: true,
  });
}

function jsonStream(options: LogOptions): DestinationStream {
  return options.output ?? destination({ dest: 1, sync: true });
}

/** A ColoError needs no stack: its code and message say everything. Others are defects and keep theirs. */
function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error; // told by another thread
  if (!(error instanceof ColoError)) return stdSerializers.err(error);
  return { code: error.code, message: error.message };
}
