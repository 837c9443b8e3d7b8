/**
 * Our reading of frames against tshark's, a dissector nobody here wrote: addresses, VLANs, ports, sequence numbers, flags,
 * lengths, options, and whether checksums are right.
 *
 *   node test/fuzz/tshark.mjs [--captures PATH]... [--mutate SECONDS] [--seed N] [--dist DIR]
 *
 * Without --captures the project's own. `--mutate` goes on with changed frames for that long. Exit code 1 on a difference.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { mutate } from './mutate.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const CAPTURES = join(ROOT, 'test', 'fixtures', 'captures');
const FILE_BYTES_MAX = 64 * 1024 * 1024;
const OUTPUT_BYTES_MAX = 1024 * 1024 * 1024;
/** Frames in one run of tshark. */
const BATCH_FRAMES = 5000;
const DIFFERENCES_SHOWN = 20;
const PLAIN_FRAME_BYTES_MAX = 65_535;

/** What tshark may dissect; what lies deeper is none of our business and would only find fault with payloads. */
const PROTOCOLS =
  'frame eth ethertype vlan ieee8021ad llc ip ipv6 ipv6.hopopts ipv6.routing ipv6.fraghdr ipv6.dstopts ah tcp udp icmp icmpv6 arp igmp data';
const BETWEEN_IP_AND_L4 = new Set(['ipv6.hopopts', 'ipv6.routing', 'ipv6.fraghdr', 'ipv6.dstopts', 'ah']);
const BEFORE_IP = new Set(['eth', 'ethertype', 'vlan', 'ieee8021ad']);
const SETTINGS = [
  'ip.defragment:FALSE',
  'ipv6.defragment:FALSE',
  'tcp.desegment_tcp_streams:FALSE',
  'tcp.analyze_sequence_numbers:FALSE',
  'tcp.relative_sequence_numbers:FALSE',
  'ip.check_checksum:TRUE',
  'tcp.check_checksum:TRUE',
  'udp.check_checksum:TRUE',
];
/** PI_WARN of Wireshark. */
const WARNING = 0x600000;
const GOOD = '1';
const BAD = '0';

const FIELDS = {
  protocols: 'frame.protocols',
  malformed: '_ws.malformed',
  complaint: '_ws.expert.message',
  severity: '_ws.expert.severity',
  vlan: 'vlan.id',
  outerVlan: 'ieee8021ad.id',
  source: 'ip.src',
  destination: 'ip.dst',
  source6: 'ipv6.src',
  destination6: 'ipv6.dst',
  fragmentOffset: 'ip.frag_offset',
  fragmentOffset6: 'ipv6.fraghdr.offset',
  sourcePort: 'tcp.srcport',
  destinationPort: 'tcp.dstport',
  seq: 'tcp.seq_raw',
  ack: 'tcp.ack_raw',
  flags: 'tcp.flags',
  window: 'tcp.window_size_value',
  payloadBytes: 'tcp.len',
  mss: 'tcp.options.mss_val',
  windowScale: 'tcp.options.wscale.shift',
  sackPermitted: 'tcp.options.sack_perm',
  timestamp: 'tcp.options.timestamp.tsval',
  echo: 'tcp.options.timestamp.tsecr',
  sackLeft: 'tcp.options.sack_le',
  sackRight: 'tcp.options.sack_re',
  tcpChecksum: 'tcp.checksum.status',
  udpSource: 'udp.srcport',
  udpDestination: 'udp.dstport',
  udpBytes: 'udp.length',
  udpChecksum: 'udp.checksum.status',
  icmpType: 'icmp.type',
  icmpCode: 'icmp.code',
  icmpChecksum: 'icmp.checksum.status',
  icmp6Type: 'icmpv6.type',
  icmp6Code: 'icmpv6.code',
  icmp6Checksum: 'icmpv6.checksum.status',
};

export function hasTshark() {
  return spawnSync('tshark', ['--version'], { stdio: 'ignore' }).status === 0;
}

export class Dissector {
  #folder = mkdtempSync(join(tmpdir(), 'colo-tshark-'));

  constructor() {
    const known = execFileSync('tshark', ['-G', 'protocols'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const wanted = new Set(PROTOCOLS.split(' '));
    const names = known.split('\n').map((line) => line.split('\t')[2]);
    const unwanted = names.filter(
      (name) => name !== undefined && !wanted.has(name) && !/^(_ws\.|(tcp|ip|ipv6)\.opt)/.test(name),
    );
    writeFileSync(join(this.#folder, 'disabled_protos'), `${unwanted.join('\n')}\n`);
  }

  /** A row of fields for each frame; of a field that stands several times, all, outermost first. */
  dissect(frames) {
    const file = join(this.#folder, 'frames.pcap');
    writeFileSync(file, pcap(frames));
    const words = ['-r', file, ...SETTINGS.flatMap((setting) => ['-o', setting])];
    const columns = Object.values(FIELDS).flatMap((name) => ['-e', name]);
    const text = execFileSync('tshark', [...words, '-T', 'fields', '-E', 'occurrence=a', ...columns], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      maxBuffer: OUTPUT_BYTES_MAX,
      env: { ...process.env, WIRESHARK_CONFIG_DIR: this.#folder },
    });
    const rows = text.split('\n').slice(0, frames.length);
    return rows.map((row) => {
      const cells = row.split('\t');
      return Object.fromEntries(Object.keys(FIELDS).map((name, index) => [name, cells[index] ?? '']));
    });
  }

  close() {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function pcap(frames) {
  const parts = [Buffer.from('d4c3b2a1020004000000000000000000ffff040001000000', 'hex')];
  for (const frame of frames) {
    const header = Buffer.alloc(16);
    header.writeUInt32LE(frame.length, 8);
    header.writeUInt32LE(frame.length, 12);
    parts.push(header, frame);
  }
  return Buffer.concat(parts);
}

/** `load` imports a module of the product. Resolves with a function from a frame and tshark's row to what differs: `[]`, or `['field: ours, theirs']`. */
export async function loadComparison(load) {
  const { parseFrame } = await load('wire/parse.js');
  const { FrameKind, FrameView } = await load('wire/frame-view.js');
  const { fragmentOffset } = await load('wire/fragment.js');
  const { verifyL4Checksum } = await load('wire/checksum.js');
  const { formatIp, parseIpAddress } = await load('wire/addresses.js');
  const view = new FrameView();
  const KINDS = Object.fromEntries(Object.entries(FrameKind).map(([name, value]) => [value, name]));

  return (frame, row) => {
    parseFrame(frame, 0, frame.length, 0, view);
    const differences = [];
    const same = (name, ours, theirs) => {
      if (String(ours) !== String(theirs)) differences.push(`${name}: ${ours}, tshark ${theirs}`);
    };
    const chain = row.protocols.split(':').filter((name) => !BEFORE_IP.has(name));
    const ip = chain[0] === 'ip' ? 4 : chain[0] === 'ipv6' ? 6 : 0;
    const l4 = chain.slice(1).find((name) => ip === 4 || !BETWEEN_IP_AND_L4.has(name));
    // by design: more tags than two are another kind of traffic, and a super-frame states no length
    if (row.protocols.split(':vlan').length > 3 || frame.length > PLAIN_FRAME_BYTES_MAX) return differences;
    const isFaulty = row.malformed !== '' || row.severity.split(',').some((one) => Number(one) >= WARNING);
    if (view.kind === FrameKind.MALFORMED) {
      if (ip !== 0 && !isFaulty && ['tcp', 'udp', 'icmp', 'icmpv6'].includes(l4))
        same('kind', 'MALFORMED', l4);
      return differences;
    }
    same('vlan', view.vlan, vlanOf(row));
    // tshark takes some EtherTypes for IP that are nobody's
    const etherType = frame.readUInt16BE(12 + 4 * (row.protocols.split(':vlan').length - 1));
    if (ip !== 0 && etherType !== 0x0800 && etherType !== 0x86dd) return differences;
    same('IP version', view.ipVersion, ip);
    if (ip === 0 || view.ipVersion === 0) return differences;
    // tshark writes some IPv6 addresses with an IPv4 one in them
    const oneForm = (cell) => formatIp(parseIpAddress(first(cell)) ?? Buffer.alloc(16), 0, ip);
    const addressBytes = ip === 4 ? 4 : 16;
    const sourceAt = view.l3 + (ip === 4 ? 12 : 8);
    const [source, destination] = ip === 4 ? [row.source, row.destination] : [row.source6, row.destination6];
    same('source', formatIp(frame, sourceAt, ip), oneForm(source));
    same('destination', formatIp(frame, sourceAt + addressBytes, ip), oneForm(destination));
    if (view.kind === FrameKind.FRAGMENT) {
      // tshark stops at options that overrun their header; whoever is to receive the packet refuses it for them
      if (ip === 6 && isFaulty && !chain.includes('ipv6.fraghdr')) return differences;
      const theirs =
        ip === 4 ? 8 * Number(first(row.fragmentOffset)) : 8 * Number(first(row.fragmentOffset6));
      same('fragment offset', fragmentOffset(view), theirs);
      return differences;
    }
    if (l4 === 'tcp') {
      same('kind', KINDS[view.kind], 'TCP');
      if (view.kind === FrameKind.TCP) compareTcp(frame, row, same);
    } else if (l4 === 'udp') {
      same('kind', KINDS[view.kind], 'UDP');
      same('source port', view.sourcePort, first(row.udpSource));
      same('destination port', view.destinationPort, first(row.udpDestination));
      same('payload', view.payloadBytes, Number(first(row.udpBytes)) - 8);
      checksums(row.udpChecksum, same);
    } else if (l4 === 'icmp' && ip === 4) {
      same('type', view.icmpType, first(row.icmpType));
      same('code', view.icmpCode, first(row.icmpCode));
      checksums(row.icmpChecksum, same);
    } else if (l4 === 'icmpv6' && ip === 6) {
      same('type', view.icmpType, first(row.icmp6Type));
      same('code', view.icmpCode, first(row.icmp6Code));
      checksums(row.icmp6Checksum, same);
    }
    return differences;
  };

  function compareTcp(frame, row, same) {
    same('source port', view.sourcePort, first(row.sourcePort));
    same('destination port', view.destinationPort, first(row.destinationPort));
    same('seq', view.seq, first(row.seq));
    same('ack', view.ack, first(row.ack));
    same('flags', view.tcpFlags, Number(first(row.flags)) & 0xff);
    same('window', view.window, first(row.window));
    same('payload', view.payloadBytes, first(row.payloadBytes));
    // 0xffff adds up as 0 does, and a receiver takes it (RFC 1624, 3)
    if (!row.complaint.includes('RFC 1624')) checksums(row.tcpChecksum, same);
    if (row.malformed !== '') return;
    if ((view.tcpFlags & 0x02) !== 0) {
      same('MSS', view.mss < 0 ? '' : view.mss, last(row.mss));
      const shift = last(row.windowScale);
      same(
        'window scale',
        view.windowScale < 0 ? '' : view.windowScale,
        shift === '' ? '' : Math.min(14, Number(shift)),
      );
      // tshark names it even when its length is wrong
      if (!row.complaint.includes('option length should be')) {
        same('SACK permitted', view.sackPermitted, row.sackPermitted !== '');
      }
    }
    const word = (at) => (view.timestamp === 0 ? '' : frame.readUInt32BE(at));
    same('timestamp', word(view.timestamp), last(row.timestamp));
    same('echo', word(view.timestamp + 4), last(row.echo));
    const blocks = Array.from({ length: view.sackBlocks }, (_none, index) => view.sack + 8 * index);
    same('SACK left', blocks.map((at) => frame.readUInt32BE(at)).join(), row.sackLeft);
    same('SACK right', blocks.map((at) => frame.readUInt32BE(at + 4)).join(), row.sackRight);
  }

  function checksums(status, same) {
    if (first(status) === GOOD) same('checksum', verifyL4Checksum(view), true);
    if (first(status) === BAD) same('checksum', verifyL4Checksum(view), false);
  }
}

const first = (cell) => cell.split(',')[0];
const last = (cell) => cell.split(',').at(-1);

/** Ids as FrameView.vlan has them; a tag with id 0 says a priority only. */
function vlanOf({ outerVlan, vlan }) {
  const [outer, inner] = `${outerVlan},${vlan}`.split(',').filter((id) => id !== '');
  return inner === undefined ? Number(outer ?? 0) : 4096 * Number(outer) + Number(inner);
}

function filesUnder(path) {
  if (statSync(path).isFile()) return [path];
  return readdirSync(path, { withFileTypes: true }).flatMap((entry) => {
    const inner = join(path, entry.name);
    if (entry.isDirectory()) return filesUnder(inner);
    return entry.isFile() && statSync(inner).size <= FILE_BYTES_MAX ? [inner] : [];
  });
}

/** Whole Ethernet frames of all captures below the paths. */
export async function framesUnder(paths, load) {
  const { LINK_TYPE_ETHERNET, readCapture } = await load('wire/capture.js');
  const frames = [];
  let files = 0;
  for (const file of paths.flatMap(filesUnder)) {
    let capture;
    try {
      capture = readCapture(readFileSync(file));
    } catch {
      continue; // no capture
    }
    const whole = capture.frames.filter(
      ({ bytes, wireBytes, linkType }) => linkType === LINK_TYPE_ETHERNET && bytes.length === wireBytes,
    );
    if (whole.length > 0) files++;
    frames.push(...whole.map(({ bytes }) => bytes));
  }
  return { files, frames };
}

async function main() {
  const { values: options } = parseArgs({
    options: {
      captures: { type: 'string', multiple: true, default: [CAPTURES] },
      mutate: { type: 'string', default: '0' },
      seed: { type: 'string' },
      dist: { type: 'string', default: join(ROOT, 'dist') },
    },
  });
  if (!hasTshark()) {
    console.log('SKIPPED: tshark is not installed');
    return;
  }
  const load = (path) => import(pathToFileURL(join(options.dist, path)).href);
  const { SeededRandom } = await load('simulation/random.js');
  const differ = await loadComparison(load);
  const dissector = new Dissector();
  let wrong = 0;
  const compareAll = (frames) => {
    for (let at = 0; at < frames.length; at += BATCH_FRAMES) {
      const batch = frames.slice(at, at + BATCH_FRAMES);
      dissector.dissect(batch).forEach((row, index) => {
        const differences = differ(batch[index], row);
        if (differences.length === 0) return;
        wrong++;
        if (wrong > DIFFERENCES_SHOWN) return;
        console.log(
          `${differences.join('; ')}\n  ${row.protocols} ${row.malformed} ${row.complaint}\n  ${batch[index].toString('hex')}`,
        );
      });
    }
  };
  try {
    const { files, frames } = await framesUnder(options.captures, load);
    compareAll(frames);
    console.log(`tshark: ${files} captures, ${frames.length} frames, ${wrong} read differently`);
    const seed = options.seed === undefined ? randomInt(1_000_000_000) : Number(options.seed);
    const generator = new SeededRandom(seed);
    const random = () => generator.uint32();
    const limits = { corpus: frames, tokens: [], bytesMax: 1514 };
    const endMs = performance.now() + 1000 * Number(options.mutate);
    let changed = 0;
    while (performance.now() < endMs) {
      const batch = Array.from({ length: BATCH_FRAMES }, () =>
        mutate(frames[random() % frames.length], limits, random),
      );
      compareAll(batch.filter((frame) => frame.length >= 14));
      changed += batch.length;
    }
    if (changed > 0)
      console.log(`tshark: ${changed} changed frames from seed ${seed}, ${wrong} read differently in all`);
  } finally {
    dissector.close();
  }
  process.exitCode = wrong === 0 ? 0 : 1;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) await main();
