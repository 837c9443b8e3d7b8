import type { ListenOptions } from 'node:net';

/** `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH` as node:net takes it. */
export function listenOptions(address: string): ListenOptions {
  if (address.startsWith('unix:')) return { path: address.slice('unix:'.length) };
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  return { host, port: Number(address.slice(colon + 1)) };
}
