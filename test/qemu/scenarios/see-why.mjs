/** What an operator sees and keeps: divergences explained, evidence, a recording that is decided again, doctor. */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { run, sleep } from '../lib/command.mjs';
import { GUEST } from '../lib/net.mjs';
import { PROXY } from '../lib/paths.mjs';

const DIFFERING = ['ipv4', 'ipv6', 'ipv4'];
const PAUSE_MS = 200;
const RULES = 'rules:\n  - { why: a cookie may differ here, action: waive, protocol: tcp, guestPort: 80 }\n';

export async function seeWhy(rig, section) {
  const { client, proxy } = rig;
  await client.do('downloads', { host: GUEST.ipv4, path: '/1m.bin', count: 4 });
  await client.do('openConnection', { name: 'lines', host: GUEST.ipv4 });
  await client.do('increment', { name: 'lines', count: 50 });
  const cookies = [];
  for (const family of DIFFERING) {
    const host = family === 'ipv4' ? GUEST.ipv4 : `[${GUEST.ipv6}]`;
    cookies.push((await client.do('get', { url: `http://${host}/cookie` })).text.trim());
    await sleep(PAUSE_MS);
  }
  await client.do('askDifferingDatagram', { host: GUEST.ipv4, tag: 'one' });
  await sleep(PAUSE_MS);
  await explained(proxy, section.at('8 explain'), cookies);
  await doctor(rig, section.at('8 doctor'));

  // the recording goes on over a death
  rig.primary.kill();
  await proxy.until('failed over', 30_000, (metrics) => metrics.state === 'failed-over');
  await client.do('increment', { name: 'lines', count: 10, msMax: 20_000 });
  await proxy.stop();
  await evidence(rig, section.at('8 evidence'), cookies);
  await recording(rig, section.at('8 replay'));
}

async function explained(proxy, point, cookies) {
  const list = await proxy.control(['explain']);
  const ofCookie = list.split('\n').filter((line) => line.includes('HTTP header Set-Cookie'));
  point.expect('every cookie is explained as such', ofCookie.length === cookies.length, ofCookie.join('\n'));
  const id = /^#(\d+)/.exec(ofCookie.at(-1) ?? '')?.[1] ?? '0';
  const full = await proxy.control(['explain', '--id', id]).catch((error) => error.message);
  const shown = /at byte \d+/.test(full) && full.includes('\nprimary:\n') && full.includes('\nsecondary:\n');
  point.expect('flow, offset and the bytes of both sides', shown, full);
  const last = await proxy.control(['explain', '--last']);
  point.expect('the last one is the datagram', last.includes(`udp ${GUEST.ipv4}:9`), last.split('\n')[1]);
  const { text } = await proxy.api('/api/divergences');
  const { divergences } = JSON.parse(text);
  const first = divergences.find((one) => one.field === 'HTTP header Set-Cookie');
  const bytes = Buffer.from(first?.primary ?? '', 'hex').toString();
  point.expect(
    "the primary's bytes are what a client got",
    cookies.some((cookie) => bytes.length > 8 && cookie.includes(bytes.split('\r')[0])),
    bytes.split('\r')[0],
  );
  const line = proxy.child
    .logText()
    .split('\n')
    .find((one) => one.includes('Set-Cookie'));
  point.expect('one line in the log', line !== undefined, line ?? 'none');
}

async function doctor(rig, point) {
  const { text } = await told(rig, ['doctor', '--config', rig.proxy.configFile, '--json']);
  const findings = JSON.parse(text);
  const failed = findings.filter(({ level }) => level === 'fail');
  const seen = findings.map(({ what, level }) => `${level} ${what}`).join(', ');
  point.expect(
    'finds no failure at a pair that works',
    failed.length === 0,
    failed.map((one) => JSON.stringify(one)).join('; ') || seen,
  );
}

async function evidence(rig, point, cookies) {
  const folder = path.join(rig.logs, 'evidence');
  const files = fs.readdirSync(folder).map((name) => path.join(folder, name));
  point.expect('files', files.length > 0, files.map((file) => path.basename(file)).join(', '));
  const fields = ['frame.interface_name', 'frame.time_epoch', 'frame.comment'].flatMap((name) => [
    '-e',
    name,
  ]);
  const rows = [];
  for (const file of files) {
    rows.push(...(await run('tshark', ['-r', file, '-T', 'fields', ...fields])).split('\n').filter(Boolean));
  }
  const ofSide = (side) => rows.filter((row) => row.startsWith(`${side}\t`)).length;
  point.expect(
    'tshark reads both sides, each frame with a comment',
    ofSide('primary') > cookies.length &&
      ofSide('secondary') > cookies.length &&
      rows.every((row) => /#\d+/.test(row) || !/^\w+\t/.test(row)),
    `${ofSide('primary')} frames of the primary, ${ofSide('secondary')} of the secondary`,
  );
  point.expect(
    'and what the clients had sent before',
    ofSide('client') >= cookies.length,
    `${ofSide('client')} frames of clients`,
  );
  const nanoseconds = rows.some((row) => /\t\d+\.\d{6}(?!000)\d{3}\t/.test(row));
  point.expect('times finer than a microsecond', nanoseconds, rows[0]?.slice(0, 60) ?? '');
  const { text } = await told(rig, ['explain', files.at(-1)]);
  point.expect('explain reads the file', text.includes('HTTP header Set-Cookie'), text.split('\n')[0]);
}

async function recording(rig, point) {
  const folder = path.join(rig.logs, 'record');
  const rules = path.join(rig.logs, 'rules.yaml');
  fs.writeFileSync(rules, RULES);
  const again = await told(rig, ['replay', folder]);
  point.expect(
    'every decision is made again, bit for bit',
    again.code === 0 && again.text.includes('bit for bit'),
    again.text.trim().split('\n').at(-1),
  );
  const changed = await told(rig, ['replay', folder, '--rules', rules]);
  const row = (name) =>
    new RegExp(`^${name} +(\\d+) +(\\d+)`, 'm').exec(changed.text)?.slice(1).map(Number) ?? [];
  const [asked, wouldAsk] = row('checkpoints asked for');
  point.expect(
    'other rules, side by side',
    wouldAsk < asked,
    `${asked} checkpoints asked for, ${wouldAsk} with a waiver`,
  );
  const patient = await told(rig, ['replay', folder, '--hold-ms', '2000:4000']);
  point.expect(
    'other timers',
    /changed/.test(patient.text),
    patient.text.split('\n').find((line) => line.startsWith('total hold')) ?? patient.text,
  );
  const { text } = await told(rig, ['learn', folder]);
  const learnt = text.split('\n').find((line) => line.includes('Set-Cookie'));
  point.expect(
    'learn names the cookie and what waiving gives up',
    learnt !== undefined && text.includes('gives up'),
    learnt ?? text,
  );
}

/** A command of the program, whatever its exit code. */
function told(rig, words) {
  const command = ['netns', 'exec', rig.network.host, process.execPath, PROXY, ...words];
  return new Promise((resolve) => {
    execFile('ip', command, { timeout: 60_000 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code, text: stdout === '' ? stderr : stdout });
    });
  });
}
