import { ColoError } from '../errors.js';

/**
 * Where a link goes, parsed from its URL:
 *
 *   packet:NAME                      the host's side of an interface (AF_PACKET)
 *   tap:NAME[,bridge=BRIDGE]         a TAP whose character device the proxy holds
 *   stream:unix:PATH[,server]        QEMU `-netdev stream` over a unix socket
 *   stream:tcp:HOST:PORT[,server]    the same over TCP; IPv6 addresses in brackets
 *   chardev:ADDRESS[,server][,vnet]  the framing of QEMU's network filters, over either; vnet: with `vnet_hdr_support`
 */
export type LinkUrl =
  | { readonly kind: 'packet'; readonly interface: string }
  | { readonly kind: 'tap'; readonly interface: string; readonly bridge?: string }
  | { readonly kind: 'stream'; readonly address: StreamAddress; readonly server: boolean }
  | {
      readonly kind: 'chardev';
      readonly address: StreamAddress;
      readonly server: boolean;
      readonly vnet: boolean;
    };

export type StreamAddress =
  | { readonly family: 'unix'; readonly path: string }
  | { readonly family: 'tcp'; readonly host: string; readonly port: number };

/** IFNAMSIZ - 1 (linux/if.h). */
const INTERFACE_NAME_BYTES_MAX = 15;
/** sizeof(sun_path) - 1 (unix(7)). */
const SOCKET_PATH_BYTES_MAX = 107;

/** Throws COLO_ERR_LINK_URL with the part that is wrong and the form that was expected. */
export function parseLinkUrl(url: string): LinkUrl {
  const colon = url.indexOf(':');
  const scheme = colon < 0 ? url : url.slice(0, colon);
  const rest = colon < 0 ? '' : url.slice(colon + 1);
  switch (scheme) {
    case 'packet':
      return { kind: 'packet', interface: interfaceName(url, rest) };
    case 'tap':
      return parseTap(url, rest);
    case 'stream':
      return parseStreamUrl(url, rest);
    case 'chardev': {
      const { address, server, vnet } = parseStream(url, scheme, rest, ['server', 'vnet']);
      return { kind: 'chardev', address, server, vnet };
    }
    default:
      throw wrong(url, `unknown scheme "${scheme}"; expected packet:, tap:, stream: or chardev:`);
  }
}

/** The URL that `parseLinkUrl` turns back into the same link. */
export function formatLinkUrl(link: LinkUrl): string {
  switch (link.kind) {
    case 'packet':
      return `packet:${link.interface}`;
    case 'tap':
      return `tap:${link.interface}${link.bridge === undefined ? '' : `,bridge=${link.bridge}`}`;
    case 'stream':
      return `stream:${formatAddress(link.address)}${link.server ? ',server' : ''}`;
    case 'chardev':
      return `chardev:${formatAddress(link.address)}${link.server ? ',server' : ''}${link.vnet ? ',vnet' : ''}`;
  }
}

function formatAddress(address: StreamAddress): string {
  if (address.family === 'unix') return `unix:${address.path}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `tcp:${host}:${address.port}`;
}

/** True for a name the kernel accepts for an interface: 1 to 15 bytes, no '/', ':', whitespace, not "." or "..". */
export function isInterfaceName(name: string): boolean {
  const bytes = Buffer.byteLength(name);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control bytes are what must be refused
  const allowed = !/[\s/:\u0000-\u001f\u007f]/.test(name);
  return bytes >= 1 && bytes <= INTERFACE_NAME_BYTES_MAX && allowed && name !== '.' && name !== '..';
}

function interfaceName(url: string, name: string): string {
  if (isInterfaceName(name)) return name;
  throw wrong(
    url,
    `"${name}" is not an interface name (1 to ${INTERFACE_NAME_BYTES_MAX} bytes, no "/", ":" or whitespace)`,
  );
}

function parseTap(url: string, rest: string): LinkUrl {
  const [name = '', ...options] = rest.split(',');
  let bridge: string | undefined;
  for (const option of options) {
    if (!option.startsWith('bridge=')) throw wrong(url, `unknown option "${option}"; expected bridge=NAME`);
    if (bridge !== undefined) throw wrong(url, 'bridge= is given twice');
    bridge = interfaceName(url, option.slice('bridge='.length));
  }
  const tap = { kind: 'tap', interface: interfaceName(url, name) } as const;
  return bridge === undefined ? tap : { ...tap, bridge };
}

function parseStreamUrl(url: string, rest: string): LinkUrl {
  const { address, server } = parseStream(url, 'stream', rest, ['server']);
  return { kind: 'stream', address, server };
}

function parseStream(url: string, scheme: string, rest: string, known: readonly string[]): ParsedStream {
  const [place = '', ...options] = rest.split(',');
  for (const option of options) {
    if (!known.includes(option))
      throw wrong(url, `unknown option "${option}"; expected ${known.join(' or ')}`);
  }
  const flags = { server: options.includes('server'), vnet: options.includes('vnet') };
  if (place.startsWith('unix:')) return { address: unixAddress(url, place.slice('unix:'.length)), ...flags };
  if (place.startsWith('tcp:')) return { address: tcpAddress(url, place.slice('tcp:'.length)), ...flags };
  const form = known.map((option) => `[,${option}]`).join('');
  throw wrong(url, `expected ${scheme}:unix:PATH${form} or ${scheme}:tcp:HOST:PORT${form}`);
}

interface ParsedStream {
  readonly address: StreamAddress;
  readonly server: boolean;
  readonly vnet: boolean;
}

function unixAddress(url: string, path: string): StreamAddress {
  const bytes = Buffer.byteLength(path);
  if (bytes === 0) throw wrong(url, 'the socket path is empty');
  if (bytes > SOCKET_PATH_BYTES_MAX) {
    throw wrong(url, `the socket path has ${bytes} bytes; the kernel takes ${SOCKET_PATH_BYTES_MAX}`);
  }
  if (path.includes('\0')) throw wrong(url, 'the socket path holds a zero byte');
  return { family: 'unix', path };
}

function tcpAddress(url: string, hostAndPort: string): StreamAddress {
  const match = /^(?:\[([^\][\s]+)\]|([^:,\][\s]+)):(\d{1,5})$/.exec(hostAndPort);
  const port = Number(match?.[3]);
  if (!match || port < 1 || port > 65535) {
    throw wrong(url, 'expected HOST:PORT with a port of 1 to 65535; an IPv6 address stands in brackets');
  }
  return { family: 'tcp', host: (match[1] ?? match[2])!, port };
}

function wrong(url: string, what: string): ColoError {
  return new ColoError('COLO_ERR_LINK_URL', `link URL "${url}": ${what}`);
}
