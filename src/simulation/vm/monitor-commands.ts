import type { QmpObject } from '../../qmp/framing.js';
import { isObject } from '../../qmp/framing.js';
import type { Address } from '../../system/channel.js';
import { QmpRefusal } from './qmp-server.js';

/** `unix:/run/x.sock` or `tcp:host:4444` as QEMU's migrate takes it. */
export function parseMigrationUri(uri: unknown): Address {
  if (typeof uri !== 'string') throw new QmpRefusal("Parameter 'uri' is missing");
  const unix = /^unix:(\/.+)$/.exec(uri)?.[1];
  if (unix !== undefined) return { unix };
  const tcp = /^tcp:(.+):([0-9]{1,5})$/.exec(uri);
  if (tcp === null) throw new QmpRefusal(`unknown migration protocol: ${uri}`);
  return { tcp: tcp[1]!.replace(/^\[(.*)\]$/, '$1'), port: Number(tcp[2]) };
}

/** The names and values of migrate-set-capabilities. */
export function parseCapabilities(args: QmpObject): Map<string, boolean> {
  const list = args.capabilities;
  if (!Array.isArray(list)) throw new QmpRefusal("Parameter 'capabilities' is missing");
  const parsed = new Map<string, boolean>();
  for (const entry of list as unknown[]) {
    if (!isObject(entry) || typeof entry.capability !== 'string' || typeof entry.state !== 'boolean') {
      throw new QmpRefusal("Invalid parameter type for 'capabilities'");
    }
    parsed.set(entry.capability, entry.state);
  }
  return parsed;
}

/** x-checkpoint-delay in milliseconds, or undefined when it is not among the parameters. */
export function parseCheckpointDelay(args: QmpObject): number | undefined {
  const delayMs = args['x-checkpoint-delay'];
  if (delayMs === undefined) return undefined;
  if (typeof delayMs !== 'number' || !Number.isInteger(delayMs) || delayMs < 0 || delayMs > 0xffff_ffff) {
    throw new QmpRefusal("Parameter 'x-checkpoint-delay' expects uint32");
  }
  return delayMs;
}
