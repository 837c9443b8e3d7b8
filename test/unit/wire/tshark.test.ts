/** Our reading of frames, our own and captured ones, against a dissector nobody here wrote. */
import { afterAll, describe, expect, it } from 'vitest';
import {
  buildEcho,
  buildGratuitousArp,
  buildIp,
  buildNeighbourSolicitation,
  buildRarp,
  buildTcp,
  buildUdp,
  buildUnsolicitedNa,
  vlanTags,
} from '../../../src/wire/build.js';

const V4 = { source: '10.0.0.2', destination: '10.0.0.1' };
const V6 = { source: 'fd00::2', destination: 'fd00::1' };
const PORTS = { sourcePort: 8000, destinationPort: 40000 };
const MAC = '52:54:00:12:34:56';
const data = Buffer.from('some payload');

const FRAMES: Buffer[] = [
  buildTcp({
    ...V4,
    ...PORTS,
    seq: 0xfffffffe,
    ack: 5,
    flags: 0x12,
    window: 1000,
    options: { mss: 1460, windowScale: 7, sackPermitted: true, timestamp: { value: 1, echo: 2 } },
  }),
  buildTcp({
    ...V6,
    ...PORTS,
    seq: 3,
    ack: 4,
    flags: 0x18,
    payload: data,
    vlans: vlanTags(5),
    options: { sack: [[9, 12]] },
  }),
  buildTcp({ ...V4, ...PORTS, seq: 3, ack: 4, flags: 0x11, paddingBytes: 6, vlans: vlanTags(3 * 4096 + 5) }),
  buildTcp({
    ...V6,
    ...PORTS,
    seq: 3,
    flags: 4,
    extensionProtocol: 60,
    ipOptions: Buffer.from('0600000000000000', 'hex'),
  }),
  buildUdp({ ...V4, ...PORTS, payload: data }),
  buildUdp({ ...V6, ...PORTS, payload: data }),
  buildEcho({ ...V4, identifier: 7, sequence: 9, payload: data }),
  buildEcho({ ...V6, identifier: 7, sequence: 9, payload: data, reply: true }),
  buildGratuitousArp(MAC, '10.0.0.2', 'request'),
  buildGratuitousArp(MAC, '10.0.0.2', 'reply', 5),
  buildRarp(MAC),
  buildNeighbourSolicitation({ senderMac: MAC, senderIp: 'fe80::1', targetIp: 'fe80::2' }),
  buildUnsolicitedNa(MAC, 'fd00::2'),
  buildIp({ ...V4, id: 77, fragment: { offset: 16, more: true } }, 17, Buffer.alloc(24)),
  buildIp({ ...V6, id: 77, fragment: { offset: 16, more: true } }, 17, Buffer.alloc(24)),
];

type Row = Readonly<Record<string, string>>;
type Load = (path: string) => Promise<unknown>;
interface Tshark {
  readonly CAPTURES: string;
  hasTshark(): boolean;
  readonly Dissector: new () => { dissect(frames: readonly Buffer[]): Row[]; close(): void };
  loadComparison(load: Load): Promise<(frame: Buffer, row: Row) => string[]>;
  framesUnder(paths: readonly string[], load: Load): Promise<{ files: number; frames: Buffer[] }>;
}
const modulePath = '../../fuzz/tshark.mjs';
const { CAPTURES, Dissector, framesUnder, hasTshark, loadComparison } = (await import(modulePath)) as Tshark;
const fromSource: Load = (path) => import(/* @vite-ignore */ `../../../src/${path.replace(/\.js$/, '.ts')}`);

const available = hasTshark();
if (!available) console.warn('SKIPPED: tshark is not installed, our dissection is not compared with its');

describe.skipIf(!available)('tshark agrees', async () => {
  const dissector = available ? new Dissector() : undefined;
  afterAll(() => dissector?.close());
  const differ = await loadComparison(fromSource);
  const differences = (frames: readonly Buffer[], rows: readonly Row[]): string[] =>
    frames.flatMap((frame, index) => differ(frame, rows[index]!).map((text) => `frame ${index}: ${text}`));

  it('on every field of our own frames, and finds no checksum wrong', () => {
    const rows = dissector!.dissect(FRAMES);
    expect(differences(FRAMES, rows)).toEqual([]);
    for (const row of rows) {
      expect(row.malformed).toBe('');
      expect([row.tcpChecksum, row.udpChecksum, row.icmpChecksum, row.icmp6Checksum]).not.toContain('0');
    }
    expect(rows.filter((row) => `${row.tcpChecksum}${row.udpChecksum}`.startsWith('1')).length).toBe(6);
  });

  it('where it is stricter than a receiver, or takes for IP what is not', () => {
    const frames = [
      // a checksum of 0xffff, which adds up as 0 does
      '0010db88d2efc8bcc896d2a08100b0008100b000080045000040df8e400040066dd38d8ee405c096bb2be9d00050fe21323a00000000b002ffffffff3bc00000020405b4010303040101080a164add200000000004020000',
      // an EtherType that IANA has given to nobody
      'c412f5ff72e86cf049b2de6efff245000028139740008006434f9400000151da480ff06500507fff1d18000019ffff100104e32000ff000000000000000000',
    ].map((text) => Buffer.from(text, 'hex'));
    expect(differences(frames, dissector!.dissect(frames))).toEqual([]);
  });

  it('on every frame of the captures', async () => {
    const { files, frames } = await framesUnder([CAPTURES], fromSource);
    expect([files, frames.length]).toEqual([8, 171]);
    expect(differences(frames, dissector!.dissect(frames))).toEqual([]);
  });

  it('a field read wrongly is seen', () => {
    const [row] = dissector!.dissect(FRAMES.slice(0, 1));
    expect(differ(FRAMES[0]!, { ...row!, seq: '1' })).toEqual(['seq: 4294967294, tshark 1']);
    expect(differ(FRAMES[0]!, { ...row!, mss: '' })).toEqual(['MSS: 1460, tshark ']);
    expect(differ(FRAMES[0]!, { ...row!, tcpChecksum: '0' })).toEqual(['checksum: true, tshark false']);
  });
});
