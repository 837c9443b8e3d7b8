/** One cell of the matrix on a running rig. */
import { sleep } from '../qemu/lib/command.mjs';
import { GUEST } from '../qemu/lib/net.mjs';
import { nameOf, whenOf } from './cells.mjs';
import { timeline } from './timeline.mjs';
import { start } from './traffic.mjs';

const OVER_MS_MAX = 30_000;
const FINISH_MS_MAX = 60_000;
const SETTLE_MS = 150;
/** Traffic that began this long ago is in full flow. */
const FLOW_MS = 250;
const SILENCE_MS = 1000;
const ATTEMPTS_MAX = 4;
/** What must never happen, even when nobody is left. */
const FALSE_ANSWER = /wrong|unexpected|unasked|ECONNRESET|counter went/;

/** Connections that live from the first cell of a rig to its last. */
export async function begin(rig) {
  await rig.client.do('openConnection', { name: 'forever', host: GUEST.ipv4 });
  const { value } = await rig.client.do('increment', { name: 'forever' });
  rig.counter = value;
}

/**
 * @param {{victim: string, traffic: string, moment: string}} cell
 * @returns {Promise<{ok: boolean, problems: string[], when: string, phase: string, figures: object}>}
 */
export async function play(rig, cell) {
  const problems = [];
  const { client, proxy } = rig;
  const name = nameOf(cell);
  await rig.protect();
  const before = await proxy.metrics();
  await client.do('startSteady', { name, host: GUEST.ipv6, everyMs: 5 });
  const when = whenOf(cell);
  const { traffic, moment } = await reachUnderTraffic(rig, cell, when, name, problems);
  const gapBeforeMs = await client.do('steadyGap', { name }); // measured anew from here
  const killedAtMs = performance.timeOrigin + performance.now();
  await kill(rig, cell.victim, before.carrier, when);
  moment.pass();
  const outcome = { when, phase: moment.phase, problems };
  if (cell.victim === 'both') {
    await expectSilence(rig, traffic, problems);
    return { ok: problems.length === 0, ...outcome, figures: {} };
  }

  const over = await proxy
    .until('over', OVER_MS_MAX, (m) => isOver(m, cell.victim, before))
    .catch((error) => problems.push(error.message.split('\n')[0]));
  await collect(problems, 'traffic', traffic.finish());
  await collect(
    problems,
    'the connection older than everything',
    client.do('increment', { name: 'forever', count: 3 }).then(({ value }) => {
      rig.counter += traffic.increments + 3;
      if (value !== rig.counter) throw new Error(`counter ${value}, expected ${rig.counter}`);
    }),
  );
  await sleep(SETTLE_MS);
  const steady = await client.do('stopSteady', { name });
  if (steady.error) problems.push(`a steady connection: ${steady.error}`);
  // With the proxy dies what it holds.
  if (cell.victim !== 'proxy') await collect(problems, 'the datagram that differed', moment.answered);
  const survivor = rig[typeof over === 'object' ? over.carrier : before.carrier];
  const { status } = await survivor.monitor
    .execute('query-status')
    .catch((error) => ({ status: error.message }));
  if (status !== 'running') problems.push(`QEMU says the survivor is ${status}`);
  problems.push(...survivor.damage());
  const figures = {
    gapMs: steady.gapMsMax,
    gapBeforeMs,
    ...timeline(proxy.logFile, survivor, killedAtMs, steady.gapEndedAtMs),
  };
  return { ok: problems.length === 0, ...outcome, figures };
}

/** Traffic that was over before the moment came is begun again. */
async function reachUnderTraffic(rig, cell, when, name, problems) {
  for (let attempt = 1; ; attempt++) {
    const traffic = await start(rig, cell, name);
    await sleep(FLOW_MS);
    const moment = await reach(rig, cell, when);
    if (!traffic.isOver()) return { traffic, moment };
    if (attempt === ATTEMPTS_MAX) {
      problems.push('the traffic was over before the moment came');
      return { traffic, moment };
    }
    moment.pass();
    await collect(problems, 'traffic', traffic.finish());
    await collect(problems, 'the datagram that differed', moment.answered);
  }
}

/** Waits for the moment; at a sync-point everything stands still there until `pass`. */
async function reach({ client, proxy }, { moment }, when) {
  if (moment === 'between') {
    await sleep(Math.random() * 100);
    return { phase: 'any', answered: Promise.resolve(), pass: () => {} };
  }
  const stop = await proxy.stopAt(moment, when);
  const answered = client.do('askDifferingDatagram', { host: GUEST.ipv4, tag: 'word', answerMsMax: 10_000 });
  answered.catch(() => {}); // judged later, or not at all
  const phase = await stop.held;
  return { phase, answered, pass: () => stop.pass() };
}

async function kill(rig, victim, carrier, when) {
  const other = carrier === 'primary' ? 'secondary' : 'primary';
  const die = async (vm) => {
    vm.kill();
    await vm.child.ended;
  };
  switch (victim) {
    case 'primary':
      return die(rig[carrier]);
    case 'secondary':
      return die(rig[other]);
    case 'both':
      return void (await Promise.all([die(rig[carrier]), die(rig[other])]));
    case 'frozen-secondary':
      return rig[other].child.kill('SIGSTOP');
    case 'frozen':
      return rig[carrier].child.kill('SIGSTOP');
    case 'relay': {
      const { monitor } = rig[when === 'before' ? other : carrier];
      return monitor.execute('yank', { instances: [{ type: 'migration' }] });
    }
    default:
      rig.proxy.child.kill('SIGKILL');
      await rig.proxy.child.ended;
      return rig.proxy.start();
  }
}

function isOver(m, victim, before) {
  if (victim === 'primary' || victim === 'frozen')
    return m.state === 'failed-over' && m.carrier !== before.carrier;
  if (victim === 'secondary' || victim === 'frozen-secondary')
    return m.state === 'failed-over' && m.carrier === before.carrier;
  return m.state === 'unprotected' && m.carrier === before.carrier;
}

/** Nobody is left: nothing leaves any more, nothing false has left, and the proxy says so. */
async function expectSilence({ client, proxy }, traffic, problems) {
  const wrong = traffic.finish().then(
    () => undefined,
    (error) => (FALSE_ANSWER.test(error.message) ? error.message : undefined),
  );
  await sleep(SILENCE_MS);
  const first = await client.do('interfaceCounters', { name: 'eth0' });
  await sleep(SILENCE_MS);
  const second = await client.do('interfaceCounters', { name: 'eth0' });
  const came = second.framesReceived - first.framesReceived;
  if (came > 0) problems.push(`${came} frames came from a dead pair`);
  const asked = { host: GUEST.ipv4, count: 1, answerMsMax: SILENCE_MS };
  const { answered } = await client.do('echoDatagrams', asked);
  if (answered > 0) problems.push('somebody answers');
  const falsehood = await Promise.race([wrong, sleep(0)]);
  if (falsehood) problems.push(`traffic: ${falsehood}`);
  const { text, status } = await proxy.readiness();
  if (status !== 503 || !/qmp/.test(text)) problems.push(`readyz says ${status}: ${text}`);
}

async function collect(problems, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${FINISH_MS_MAX} ms`)), FINISH_MS_MAX);
  });
  await Promise.race([promise, late]).catch((error) =>
    problems.push(`${what}: ${error.message.split('\n')[0]}`),
  );
  clearTimeout(timer);
}
