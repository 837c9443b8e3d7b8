import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Divergence, DivergenceFrame } from '../../../src/compare/verdict.js';
import { decodeField } from '../../../src/evidence/decoders.js';
import { explain } from '../../../src/evidence/explain.js';
import { tcpFrame } from './frames.js';

function httpAnswer(date: string): Buffer {
  return Buffer.from(`HTTP/1.1 200 OK\r\nServer: x\r\nDate: ${date}\r\nContent-Length: 2\r\n\r\nok`);
}

function frameOf(side: DivergenceFrame['side'], payload: Buffer, position: number): DivergenceFrame {
  const bytes = tcpFrame(payload, { sourcePort: 80, destinationPort: 40_000 });
  return {
    side,
    bytes,
    wireBytes: bytes.length,
    atMs: 1,
    payloadAt: bytes.length - payload.length,
    payloadBytes: payload.length,
    position,
  };
}

describe('explain', () => {
  const primary = httpAnswer('Mon, 01 Jan 2024 00:00:01 GMT');
  const secondary = httpAnswer('Mon, 01 Jan 2024 00:00:02 GMT');
  const at = primary.findIndex((byte, index) => byte !== secondary[index]);
  const divergence: Divergence = {
    reason: 'payload',
    flow: 'tcp 10.0.0.2:80 > 10.0.0.1:40000',
    offset: 1000 + at,
    primaryBytes: primary.subarray(at, at + 4),
    secondaryBytes: secondary.subarray(at, at + 4),
    atMs: 1,
  };

  it('names the HTTP header, wherever the secondary cut its segments', () => {
    const told = explain(divergence, [
      frameOf('primary', primary, 1000),
      frameOf('secondary', secondary.subarray(0, 20), 1000),
      frameOf('secondary', secondary.subarray(20), 1020),
    ]);
    expect(told.field).toBe('HTTP header Date');
    expect(told.summary).toBe(
      `HTTP header Date: the bytes differ (tcp 10.0.0.2:80 > 10.0.0.1:40000 at byte ${1000 + at})`,
    );
    expect(told.advice).toMatch(/clocks/);
    expect(Buffer.from(told.before).toString()).toMatch(/Date: Mon, 01 Jan 2024 00:00:0$/);
    expect(Buffer.from(told.primary).toString()).toMatch(/^1 GMT/);
    expect(Buffer.from(told.secondary).toString()).toMatch(/^2 GMT/);
  });

  it('positions wrap with the sequence numbers', () => {
    const wrapped = { ...divergence, offset: 2 ** 32 - 5 + at - 2 ** 32 };
    expect(explain(wrapped, [frameOf('primary', primary, -5)]).field).toBe('HTTP header Date');
  });

  it('decodes a super-frame of which only the beginning was copied', () => {
    const whole = frameOf('primary', Buffer.concat([primary, Buffer.alloc(40_000)]), 1000);
    const cut = { ...whole, bytes: whole.bytes.subarray(0, 16_384) };
    expect(explain(divergence, [cut]).field).toBe('HTTP header Date');
  });

  it('without frames shows what the divergence itself has', () => {
    const told = explain(divergence, []);
    expect(told.field).toBeUndefined();
    expect(Buffer.from(told.primary).toString()).toBe(primary.toString('latin1', at, at + 4));
  });
});

describe('decoders', () => {
  const field = (payload: Buffer, at: number, guestPort = 80, isTcp = true): string | undefined =>
    decodeField({ payload, at, isTcp, guestPort });

  it('HTTP', () => {
    const answer = httpAnswer('now');
    expect(field(answer, 9)).toBe('HTTP status line');
    expect(field(answer, answer.length - 1)).toBe('HTTP body');
    expect(field(Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n'), 6)).toBe('HTTP request line');
    expect(field(Buffer.from('GETTING on'), 6)).toBeUndefined();
  });

  it('TLS', () => {
    const hello = Buffer.alloc(120);
    hello.set([22, 3, 3, 0, 100, 2, 0, 0, 96, 3, 3]);
    hello[43] = 32;
    hello.set([23, 3, 3, 0, 10], 105);
    expect(field(hello, 2)).toBe('TLS handshake record header');
    expect(field(hello, 9)).toBe('TLS ServerHello version');
    expect(field(hello, 11)).toBe('TLS ServerHello random');
    expect(field(hello, 42)).toBe('TLS ServerHello random');
    expect(field(hello, 44)).toBe('TLS ServerHello session id');
    expect(field(hello, 76)).toMatch(/key share/);
    expect(field(hello, 112)).toBe('TLS application data');
  });

  it('SSH', () => {
    const banner = Buffer.from('SSH-2.0-OpenSSH_9.2\r\n');
    const init = Buffer.alloc(64);
    init.writeUInt32BE(60, 0);
    init[5] = 20;
    expect(field(banner, 10, 22)).toBe('SSH banner');
    expect(field(init, 7, 22)).toBe('SSH key exchange cookie');
    expect(field(Buffer.concat([banner, init]), banner.length + 8, 22)).toBe('SSH key exchange cookie');
  });

  it('DNS and NTP', () => {
    const query = Buffer.from('beef01000001000000000000 0361 6263 0000 0100 01'.replaceAll(' ', ''), 'hex');
    expect(field(query, 0, 53, false)).toBe('DNS id');
    expect(field(query, 14, 53, false)).toBe('DNS question');
    expect(field(query, 0, 54, false)).toBeUndefined();
    expect(field(Buffer.alloc(48), 41, 123, false)).toBe('NTP transmit timestamp');
  });

  it('hostile payloads end in a word or in nothing', () => {
    const starts = ['', 'HTTP/1.1 200 ', 'SSH-', '\x16\x03\x03', 'SSH-2.0-x\n\x00\x00\x00\x20\x00\x14'];
    fc.assert(
      fc.property(
        fc.constantFrom(...starts),
        fc.uint8Array({ minLength: 1, maxLength: 300 }),
        fc.nat(299),
        fc.constantFrom(22, 53, 80, 123),
        fc.boolean(),
        (start, tail, at, port, isTcp) => {
          const payload = Buffer.concat([Buffer.from(start, 'latin1'), tail]);
          const word = field(payload, at % payload.length, port, isTcp);
          expect(word === undefined || /^[\x20-\x7e]{3,100}$/.test(word)).toBe(true);
        },
      ),
      { numRuns: 2000 },
    );
  });
});
