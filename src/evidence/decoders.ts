/**
 * What protocol field a byte of a payload belongs to, as far as small decoders can tell: for the eyes of people, on a
 * divergence only. Each takes the payload and the index of the byte that differs, and answers undefined when it is
 * not its protocol; hostile bytes lead to no more than a wrong word.
 */

export interface DecodeInput {
  readonly payload: Buffer;
  /** Index of the first byte that differs; within `payload`. */
  readonly at: number;
  /** Payload starts a TCP stream's message, as far as is known: the first byte of a segment. */
  readonly isTcp: boolean;
  readonly guestPort: number;
}

/** `HTTP header Date`, `TLS ServerHello random`. */
export function decodeField(input: DecodeInput): string | undefined {
  for (const decode of [http, ssh, tls, dns, ntp]) {
    const field = decode(input);
    if (field !== undefined) return field;
  }
  return undefined;
}

const HTTP_START = /^(HTTP\/1\.[01] \d{3}|(GET|POST|PUT|HEAD|DELETE|OPTIONS|PATCH) \S{1,2048} HTTP\/1\.[01])/;
const HTTP_HEAD_BYTES_MAX = 16_384;

/** RFC 9112: a start line, header lines, an empty line, the body. */
function http({ payload, at, isTcp }: DecodeInput): string | undefined {
  if (!isTcp) return undefined;
  const text = payload.toString('latin1', 0, HTTP_HEAD_BYTES_MAX);
  if (!HTTP_START.test(text)) return undefined;
  const headEnd = text.indexOf('\r\n\r\n');
  if (headEnd !== -1 && at >= headEnd + 4) return 'HTTP body';
  const lineStart = text.lastIndexOf('\n', at - 1) + 1;
  if (lineStart === 0) return text.startsWith('HTTP/') ? 'HTTP status line' : 'HTTP request line';
  const name = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):/.exec(text.slice(lineStart, lineStart + 80))?.[1];
  return name === undefined ? 'HTTP header' : `HTTP header ${name}`;
}

/** RFC 4253 section 4.2: the version line; section 7.1: the key exchange, whose cookie is random. */
function ssh({ payload, at, isTcp }: DecodeInput): string | undefined {
  if (!isTcp) return undefined;
  if (payload.toString('latin1', 0, 4) === 'SSH-') {
    const lineEnd = payload.indexOf(0x0a);
    if (lineEnd === -1 || at <= lineEnd) return 'SSH banner';
    return sshPacket(payload.subarray(lineEnd + 1), at - lineEnd - 1);
  }
  return sshPacket(payload, at);
}

function sshPacket(packet: Buffer, at: number): string | undefined {
  const SSH_MSG_KEXINIT = 20;
  if (packet.length < 22 || packet[5] !== SSH_MSG_KEXINIT || packet.readUInt32BE(0) > 35_000)
    return undefined;
  if (at < 6) return 'SSH key exchange header';
  return at < 22 ? 'SSH key exchange cookie' : 'SSH key exchange algorithms or padding';
}

const TLS_RECORDS: Readonly<Record<number, string>> = {
  20: 'change_cipher_spec',
  21: 'alert',
  22: 'handshake',
  23: 'application data',
};
const TLS_HANDSHAKES: Readonly<Record<number, string>> = {
  0: 'HelloRequest',
  1: 'ClientHello',
  2: 'ServerHello',
  4: 'NewSessionTicket',
  11: 'Certificate',
  12: 'ServerKeyExchange',
  14: 'ServerHelloDone',
  16: 'ClientKeyExchange',
  20: 'Finished',
};
const TLS_RECORD_HEADER_BYTES = 5;
const TLS_RECORD_BYTES_MAX = 16_384 + 2048;

/** RFC 8446 sections 5.1 and 4: records one after another from the first byte of the payload. */
function tls({ payload, at, isTcp }: DecodeInput): string | undefined {
  if (!isTcp) return undefined;
  let record = 0;
  while (payload.length - record >= TLS_RECORD_HEADER_BYTES) {
    const type = TLS_RECORDS[payload[record]!];
    const bytes = payload.readUInt16BE(record + 3);
    if (type === undefined || payload[record + 1] !== 3 || bytes > TLS_RECORD_BYTES_MAX) return undefined;
    const body = record + TLS_RECORD_HEADER_BYTES;
    if (at < body) return `TLS ${type} record header`;
    if (at < body + bytes) return type === 'handshake' ? tlsHandshake(payload, body, at) : `TLS ${type}`;
    record = body + bytes;
  }
  return undefined;
}

function tlsHandshake(payload: Buffer, body: number, at: number): string {
  const name = TLS_HANDSHAKES[payload[body] ?? -1];
  if (name === undefined) return 'TLS handshake (encrypted)';
  if (name !== 'ServerHello' && name !== 'ClientHello') return `TLS ${name}`;
  const into = at - body - 4; // type and 24-bit length come first
  if (into < 0) return `TLS ${name} header`;
  if (into < 2) return `TLS ${name} version`;
  if (into < 34) return `TLS ${name} random`;
  const sessionBytes = payload[body + 38] ?? 0;
  if (into < 35 + sessionBytes) return `TLS ${name} session id`;
  return `TLS ${name} cipher or extensions (key share)`;
}

/** RFC 1035 section 4.1; over TCP two bytes of length come first. */
function dns({ payload, at, isTcp, guestPort }: DecodeInput): string | undefined {
  if (guestPort !== 53 && guestPort !== 5353) return undefined;
  const start = isTcp ? 2 : 0;
  const into = at - start;
  if (payload.length - start < 12 || into < 0) return undefined;
  if (into < 2) return 'DNS id';
  if (into < 4) return 'DNS flags';
  if (into < 12) return 'DNS counts';
  let name = start + 12;
  for (let labels = 0; labels < 128 && name < payload.length && payload[name]! !== 0; labels++) {
    name += 1 + (payload[name]! & 0x3f);
  }
  return at < name + 5 ? 'DNS question' : 'DNS answer record';
}

/** RFC 5905 section 7.3. */
function ntp({ payload, at, isTcp, guestPort }: DecodeInput): string | undefined {
  if (isTcp || guestPort !== 123 || payload.length < 48) return undefined;
  if (at < 16) return 'NTP header';
  if (at < 24) return 'NTP reference timestamp';
  if (at < 32) return 'NTP origin timestamp';
  if (at < 40) return 'NTP receive timestamp';
  return at < 48 ? 'NTP transmit timestamp' : 'NTP extension';
}
