/** What is read from files, the command line, the environment and the kernel. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { parse as parseYaml } from 'yaml';
import { captureFiles, cut, hostileJson, must, refusalOf } from './kit.mjs';

const EXAMPLE = new URL('../../../examples/colo-proxy.yaml', import.meta.url);

export async function make(load) {
  const { ColoError } = await load('errors.js');
  const folder = mkdtempSync(join(tmpdir(), 'colo-fuzz-'));
  const close = () => rmSync(folder, { recursive: true, force: true });
  const context = { load, ColoError, folder };
  const targets = {
    ...(await configs(context)),
    url: await urls(context),
    capture: await captures(context),
    state: await states(context),
    netlink: await netlink(context),
  };
  return Object.fromEntries(Object.entries(targets).map(([name, target]) => [name, { ...target, close }]));
}

async function configs({ load, ColoError, folder }) {
  const { loadConfig } = await load('config/load.js');
  const { CONFIG_KEYS } = await load('config/keys.js');
  const { compileRules } = await load('compare/rules.js');
  const file = join(folder, 'config.yaml');
  const again = join(folder, 'again.yaml');
  /** The accepted configuration, or undefined. */
  const accept = (input) => {
    let config;
    const refusal = refusalOf(() => {
      config = loadConfig(input);
      compileRules(config.rules);
    }, ColoError);
    if (refusal !== undefined) {
      must(refusal.code === 'COLO_ERR_CONFIG', () => `refused with ${refusal.code}`);
      for (const line of refusal.message.split('\n')) mustTellWhere(line, input);
      return undefined;
    }
    inTheirRanges(config);
    // what was understood, written down, is understood as the same
    writeFileSync(again, JSON.stringify(config));
    must(
      isDeepStrictEqual(loadConfig({ file: again }), config),
      'what was accepted is read as something else',
    );
    return config;
  };
  /** Every refusal begins with its place: in the file, a variable, a flag, or the key itself. */
  const mustTellWhere = (line, input) => {
    if (/^and \d+ more$/.test(line)) return;
    const isTold =
      input.file === undefined
        ? /^(?:[\w.-]|"(?:\\.|[^"\\])*")+: ./.test(line)
        : line.startsWith(`${input.file}:`);
    must(isTold, () => `a refusal that tells no place: ${JSON.stringify(line)}`);
    const place = /^(\d+):(\d+): /.exec(line.slice(input.file?.length + 1));
    if (place === null) return;
    const lines = readFileSync(input.file, 'utf8').split('\n');
    const [, row, column] = place.map(Number);
    must(row <= lines.length && column <= lines[row - 1].length + 1, () => `no such place: ${line}`);
  };
  const inTheirRanges = (config) => {
    for (const { path, kind, min, max, choices } of CONFIG_KEYS) {
      const value = path.split('.').reduce((group, name) => group?.[name], config);
      if (value === undefined) continue;
      const isRight =
        kind === 'number'
          ? Number.isSafeInteger(value) && value >= (min ?? value) && value <= (max ?? value)
          : kind === 'choice'
            ? choices.includes(value)
            : ['text', 'account'].includes(kind) || typeof value === kind;
      must(isRight, () => `${path} was accepted as ${JSON.stringify(value)}`);
    }
    const { compare, links, qmp, failover } = config;
    must(
      compare.holdMsMin <= compare.holdMsMax &&
        compare.heldBytesPerFlowMax <= compare.heldBytesMax &&
        links.reconnectMsMin <= links.reconnectMsMax &&
        qmp.reconnectMsMin <= qmp.reconnectMsMax &&
        2 * failover.arbiter.marginMs < failover.arbiter.leaseMs,
      'contradicting limits were accepted',
    );
  };
  /** What the file says, as YAML alone reads it, is what the configuration says. */
  const asWritten = (config, text) => {
    const data = parseYaml(text, { maxAliasCount: 100 });
    for (const { path } of CONFIG_KEYS) {
      const [said, is] = [data, config].map((root) =>
        path.split('.').reduce((group, name) => group?.[name], root),
      );
      if (said === undefined || said === null) continue;
      must(
        isDeepStrictEqual(said, is),
        () => `${path}: ${JSON.stringify(said)} was read as ${JSON.stringify(is)}`,
      );
    }
  };
  const links = ['primary', 'secondary', 'client'].map((side) => {
    return { flag: '--set', path: `${side}.link`, value: `packet:${side}` };
  });
  const numbers = CONFIG_KEYS.filter(({ kind }) => kind === 'number');
  /** What is beyond its range is refused; what is accepted is what was asked for. */
  const acceptBounds = (random) => {
    const asked = Array.from({ length: 1 + (random() % 3) }, () => {
      const { path, min, max } = numbers[random() % numbers.length];
      const value = [min, max][random() % 2] + [-1, 0, 0, 0, 1][random() % 5];
      return { flag: '--set', path, value, isBeyond: value < min || value > max };
    });
    const config = accept({ env: {}, flags: [...links, ...asked] });
    if (config === undefined) return;
    const said = new Map(asked.map((one) => [one.path, one]));
    for (const { path, value, isBeyond } of said.values()) {
      const is = path.split('.').reduce((group, name) => group[name], config);
      must(!isBeyond && is === value, () => `${path}: ${value} was accepted as ${is}`);
    }
  };
  const example = readFileSync(EXAMPLE);
  const small = 'primary:\n  link: packet:a\nsecondary:\n  link: packet:b\nclient:\n  link: packet:c\n';
  const limits = 'compare:\n  heldBytesMax: 8388608\n  heldBytesPerFlowMax: 4194304\n';
  const rule = 'rules:\n  - match: {protocol: udp, port: 123}\n    action: waive\n    why: clocks\n';
  return {
    config: {
      bytesMax: 16 * 1024,
      seeds: [example, ...[small, small + rule, small + limits].map((text) => Buffer.from(text))],
      tokens: [
        ...CONFIG_KEYS.map((key) => `${key.path.split('.').at(-1)}: `),
        ...[
          '&a ',
          '*a',
          '<<: *a\n',
          '!!binary ',
          '? ',
          '- ',
          '{}',
          '[]',
          '|\n',
          '\n  ',
          '0x7fffffff',
          '.inf',
          '.nan',
          '1e400',
          '~',
          '\u0000',
        ],
      ].map((text) => Buffer.from(text)),
      run(bytes) {
        writeFileSync(file, bytes);
        const config = accept({ file, env: {}, flags: [] });
        if (config !== undefined) asWritten(config, readFileSync(file, 'utf8'));
      },
    },
    values: {
      bytesMax: 2048,
      seeds: ['COLO_PROXY_PRIMARY_LINK=packet:a\nCOLO_PROXY_COMPARE_HOLD_MS_MAX=100\n'].map((text) =>
        Buffer.from(text),
      ),
      tokens: [
        ...CONFIG_KEYS.map((key) => `${key.variable}=`),
        '1e9',
        '-0',
        'true',
        '[1]',
        'packet:a',
        'NaN',
        '0x10',
        '\n',
      ].map((text) => Buffer.from(text)),
      /** Lines of NAME=value, once as the environment and once as flags; and numbers at the ends of their ranges. */
      run(bytes, random) {
        const pairs = bytes
          .toString('utf8')
          .split('\n')
          .filter((line) => line.includes('='))
          .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]);
        accept({ env: Object.fromEntries(pairs), flags: [] });
        const flags = pairs.flatMap(([name, value]) =>
          CONFIG_KEYS.filter((key) => key.variable === name).map(({ path }) => ({
            flag: '--set',
            path,
            value,
          })),
        );
        accept({ env: {}, flags });
        acceptBounds(random);
      },
    },
  };
}

async function urls({ load, ColoError }) {
  const { parseLinkUrl, formatLinkUrl } = await load('link/url.js');
  const { parseAddress, showAddress } = await load('system/channel.js');
  const { parseIpAddress, parseMac, formatIp, formatMac } = await load('wire/addresses.js');
  const texts = [
    'packet:eth0',
    'tap:tap0,bridge=br0',
    'stream:unix:/run/a.sock,server',
    'stream:tcp:[::1]:4444',
    'chardev:tcp:localhost:9,server,vnet',
    'tcp:[fe80::1]:65535',
    '2001:db8::ffff:10.0.0.1',
    '192.168.255.0',
    '52:54:00:ab:cd:ef',
  ];
  const again = (value, show, read) => {
    const shown = show(value);
    must(show(read(shown)) === shown, () => `${JSON.stringify(shown)} is read as something else`);
  };
  return {
    bytesMax: 256,
    seeds: texts.map((text) => Buffer.from(text)),
    tokens: [
      'packet:',
      'tap:',
      'stream:',
      'chardev:',
      'unix:',
      'tcp:',
      '::',
      '[',
      ']',
      ',server',
      '\u0000',
      ':0',
    ].map((text) => Buffer.from(text)),
    /** What is accepted is written and read as the same. */
    run(bytes) {
      const text = bytes.toString('utf8');
      let link;
      const refusal = refusalOf(() => {
        link = parseLinkUrl(text);
      }, ColoError);
      if (link !== undefined) again(link, formatLinkUrl, parseLinkUrl);
      must(
        refusal === undefined || refusal.code === 'COLO_ERR_LINK_URL',
        () => `refused with ${refusal.code}`,
      );
      const address = parseAddress(text);
      if (address !== undefined) again(address, showAddress, parseAddress);
      const ip = parseIpAddress(text);
      if (ip !== undefined)
        again(ip, (value) => formatIp(value, 0, value.length === 4 ? 4 : 6), parseIpAddress);
      const mac = parseMac(text);
      if (mac !== undefined) again(mac, (value) => formatMac(value), parseMac);
    },
  };
}

async function captures({ load, ColoError }) {
  const { CaptureReader, readCapture } = await load('wire/capture.js');
  const told = (frames, trouble) =>
    JSON.stringify([frames.map(({ bytes, ...rest }) => [bytes.toString('base64'), rest]), trouble]);
  return {
    bytesMax: 32 * 1024,
    seeds: captureFiles().filter((bytes) => bytes.length < 16_384),
    tokens: ['0a0d0d0a', '4d3c2b1a', '1a2b3c4d', '06000000', '01000000', 'd4c3b2a1', 'a1b23c4d'].map((text) =>
      Buffer.from(text, 'hex'),
    ),
    /** The same frames, whole or in pieces. */
    run(bytes, random) {
      let whole;
      const refusal = refusalOf(() => {
        const capture = readCapture(bytes);
        whole = told(capture.frames, capture.trouble);
      }, ColoError);
      const reader = new CaptureReader();
      const frames = [];
      const other = refusalOf(() => {
        for (const piece of cut(bytes, () => random() * 16)) frames.push(...reader.take(piece));
        frames.push(...reader.end());
      }, ColoError);
      must(refusal?.message === other?.message, 'refused or not, depending on the pieces');
      if (refusal === undefined)
        must(whole === told(frames, reader.trouble), 'other frames when it comes in pieces');
    },
  };
}

async function states({ load, ColoError, folder }) {
  const { decodeState, encodeState, StateFile } = await load('failover/state-file.js');
  const file = new StateFile(join(folder, 'state'));
  const state = {
    owner: '0123456789abcdef',
    generation: 7,
    carrier: 'secondary',
    protecting: true,
    addresses: [{ nic: 0, mac: '525400000001', ip: '0a000001', vlan: 0 }],
    translations: [{ nic: 0, key: Array(11).fill(5), seqDelta: -1, tsDelta: 2, tsShown: null }],
  };
  const sealed = encodeState(state);
  const body = sealed.slice(sealed.indexOf('\n') + 1, -1);
  return {
    seeds: [Buffer.from(sealed), Buffer.from(body)],
    tokens: [
      'null',
      '[]',
      '{}',
      '-1',
      '1e400',
      '"carrier"',
      '"translations":[null]',
      '"addresses":[null]',
      '"key":null',
      '9007199254740993',
    ].map((text) => Buffer.from(text)),
    /** As it is, and as the body of a file whose checksum is right. */
    run(bytes, random) {
      if (random() % 16 === 0) {
        writeFileSync(file.path, bytes);
        const refusal = refusalOf(() => file.load(), ColoError);
        must(
          refusal === undefined || refusal.code === 'COLO_ERR_STATE',
          () => `refused with ${refusal.code}`,
        );
      }
      const text = hostileJson(bytes.toString('utf8'), random);
      const sha256 = createHash('sha256').update(text).digest('hex');
      const header = JSON.stringify({
        format: 'colo-proxy state',
        version: 1,
        bytes: Buffer.byteLength(text),
        sha256,
      });
      let kept;
      try {
        kept = decodeState(`${header}\n${text}\n`);
      } catch (error) {
        must(!(error instanceof TypeError), () => `refused for no reason that people know: ${error.message}`);
        return; // StateFile gives it its code
      }
      const numbers = kept.translations.flatMap(({ key, seqDelta, tsDelta, tsShown }) => [
        ...key,
        seqDelta,
        tsDelta,
        tsShown ?? 0,
      ]);
      must(
        numbers.every((number) => Object.is(number, number | 0)),
        'a number that fits no table was accepted',
      );
      must(['primary', 'secondary'].includes(kept.carrier), 'a carrier that is no seat was accepted');
      const again = encodeState(kept);
      must(encodeState(decodeState(again)) === again, 'what was read is written as something else');
    },
  };
}

async function netlink({ load }) {
  const codec = await load('link/rtnetlink-codec.js');
  const { NetlinkWriter, netlinkErrno, netlinkMessages, netlinkAttributes } =
    await load('link/netlink-message.js');
  const writer = new NetlinkWriter();
  const message = (type, fixed, write) => {
    writer.begin(type, 0, 1).bytes(Buffer.alloc(fixed));
    write(writer);
    return Buffer.from(writer.finish());
  };
  return {
    bytesMax: 1024,
    seeds: [
      message(codec.RouteType.NEWLINK, 16, (to) =>
        to
          .text(3, 'eth0')
          .attribute(4, (inner) => inner.u32(1500))
          .nested(18, (inner) => inner.text(1, 'veth')),
      ),
      message(codec.RouteType.NEWADDR, 8, (to) =>
        to.attribute(1, (inner) => inner.bytes(Buffer.alloc(4, 9))),
      ),
      message(codec.RouteType.NEWSTATS, 12, (to) =>
        to.attribute(1, (inner) => inner.bytes(Buffer.alloc(192))),
      ),
      message(2, 4, () => undefined),
    ],
    run(bytes) {
      for (const one of netlinkMessages(bytes)) {
        codec.decodeLink(one);
        codec.decodeStatistics(one);
        codec.decodeAddress(one);
        netlinkErrno(one.body);
        for (const [, content] of netlinkAttributes(one.body))
          must(content.length <= bytes.length, 'more than came');
      }
    },
  };
}
