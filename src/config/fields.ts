/** The kinds of value a configuration key can have. Every number has a unit in its key and a range here. */
import { z } from 'zod';

/** Longest duration that makes sense anywhere: one day. Node's timers wrap at 24.8 days. */
const DURATION_MS_MAX = 86_400_000;
/** sizeof(sun_path) - 1 (unix(7)). */
export const SOCKET_PATH_BYTES_MAX = 107;
/** Whitespace and control characters, which neither interfaces nor the sockets of QEMU arguments may have. */
const UNPRINTABLE = /[\s\p{Cc}]/u;

export function milliseconds(fallback: number, min: number, what: string, max = DURATION_MS_MAX) {
  return z.int().min(min).max(max).default(fallback).describe(what);
}

export function count(fallback: number, min: number, max: number, what: string) {
  return z.int().min(min).max(max).default(fallback).describe(what);
}

export function bytes(fallback: number, min: number, max: number, what: string) {
  return z.int().min(min).max(max).default(fallback).describe(what);
}

export function flag(fallback: boolean, what: string) {
  return z.boolean().default(fallback).describe(what);
}

/** A link URL. Only that there is one: which schemes exist is the link layer's business, see ConfigCheck. */
export function linkUrl() {
  return z.string().regex(/^[a-z]+:\S+$/, 'must be a link URL such as packet:tap0, without whitespace');
}

export function absolutePath(what: string) {
  return z
    .string()
    .regex(/^\/[^\s,]*$/, 'must be an absolute path without whitespace or comma')
    .describe(what);
}

/** `unix:PATH` or `tcp:HOST:PORT`, as QEMU and the proxy both take it. */
export function socketAddress(what: string) {
  return z
    .string()
    .refine((text) => socketAddressProblem(text) === null, {
      error: (issue) => socketAddressProblem(String(issue.input)) ?? 'must be an address',
    })
    .describe(what);
}

/** Numeric or by name, as chown(1) takes it. */
export function account(what: string) {
  return z
    .union([z.int().min(0).max(4_294_967_294), z.string().regex(/^[a-z_][a-z0-9_.-]{0,31}\$?$/i)], {
      error: 'must be a name or a number',
    })
    .optional()
    .describe(what);
}

export function interfaceName(what: string) {
  return z
    .string()
    .refine(isInterfaceName, 'must be 1 to 15 bytes without "/", ":", "," or whitespace')
    .describe(what);
}

/** IFNAMSIZ - 1 bytes (linux/if.h); comma and colon separate parts of link URLs. */
function isInterfaceName(name: string): boolean {
  const bytes = Buffer.byteLength(name);
  return bytes >= 1 && bytes <= 15 && !UNPRINTABLE.test(name) && !/[/:,]/.test(name) && !/^\.\.?$/.test(name);
}

/** What is wrong with a socket address, or null. */
function socketAddressProblem(text: string): string | null {
  const expected = 'must be unix:PATH or tcp:HOST:PORT';
  if (UNPRINTABLE.test(text)) return `${expected}, without whitespace`;
  if (text.startsWith('unix:')) {
    const pathBytes = Buffer.byteLength(text) - 'unix:'.length;
    if (!text.startsWith('unix:/')) return 'must be unix:PATH with an absolute path';
    if (pathBytes > SOCKET_PATH_BYTES_MAX) {
      return `has a path of ${pathBytes} bytes; a unix socket takes ${SOCKET_PATH_BYTES_MAX}`;
    }
    return null;
  }
  if (!text.startsWith('tcp:')) return expected;
  return isHostAndPort(text.slice('tcp:'.length), 1) ? null : `${expected}, an IPv6 address in brackets`;
}

/** `HOST:PORT` with an IPv6 address in brackets; ports from `portMin`. */
export function isHostAndPort(text: string, portMin: 0 | 1): boolean {
  const match = /^(?:\[[0-9a-fA-F:.%a-z]+\]|[A-Za-z0-9_.-]+):(\d{1,5})$/.exec(text);
  const port = Number(match?.[1]);
  return match !== null && port >= portMin && port <= 65_535;
}
