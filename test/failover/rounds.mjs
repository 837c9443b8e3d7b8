/** Fail over, protect again, fail over again: to and fro between the seats, with the same connections all along. */
import { sleep } from '../qemu/lib/command.mjs';
import { CLIENT, GUEST } from '../qemu/lib/net.mjs';
import { MOMENTS } from './cells.mjs';
import { timeline } from './timeline.mjs';

const OVER_MS_MAX = 30_000;
const COUNTED = ['counter IPv4', 'counter IPv6'];
const STEADY = ['steady IPv4', 'steady IPv6'];
const FROM_GUEST = ['guest-opened IPv4', 'guest-opened IPv6'];
/** A few checkpoints fit in between, so that each connection is older than the last. */
const BETWEEN_MS = 200;

/**
 * @param {number} count
 * @param {(round: {round: number, moment: string, phase: string, ok: boolean, problems: string[], figures: object}) => void} told
 */
export async function playRounds(rig, count, told) {
  const { client, proxy } = rig;
  const hosts = [GUEST.ipv4, GUEST.ipv6];
  for (const [index, host] of hosts.entries()) {
    await client.do('openConnection', { name: COUNTED[index], host });
    await client.do('startSteady', { name: STEADY[index], host, everyMs: 5 });
    const ownAddress = [CLIENT.ipv4, CLIENT.ipv6][index];
    await client.do('openFromGuest', { name: FROM_GUEST[index], host, ownAddress });
  }
  let counter = 0;
  const checkAll = async (problems) => {
    for (const name of COUNTED) {
      const { value } = await client.do('increment', { name, count: 5 });
      counter += 5;
      if (value !== counter) problems.push(`${name} says ${value}, expected ${counter}`);
    }
    for (const name of FROM_GUEST) {
      const answer = await client.do('ask', { name, request: `line ${counter}` });
      if (answer !== `echo line ${counter}`) problems.push(`${name} says "${answer}"`);
    }
  };
  for (let round = 1; round <= count; round++) {
    const problems = [];
    const moment = MOMENTS[(round - 1) % MOMENTS.length];
    const failed = (what) => (error) => problems.push(`${what}: ${error.message.split('\n')[0]}`);
    await rig.protect();
    const { carrier } = await proxy.metrics();
    await checkAll(problems).catch(failed('protected again'));
    await sleep(BETWEEN_MS);
    const stop = moment === 'between' ? undefined : await proxy.stopAt(moment, 'after');
    if (stop) client.do('askDifferingDatagram', { host: GUEST.ipv4, tag: 'word' }).catch(() => {});
    const phase = (await stop?.held) ?? 'any';
    await Promise.all(STEADY.map((name) => client.do('steadyGap', { name })));
    const killedAtMs = performance.timeOrigin + performance.now();
    rig[carrier].kill();
    await rig[carrier].child.ended;
    stop?.pass();
    await proxy
      .until('failed-over', OVER_MS_MAX, (m) => m.state === 'failed-over' && m.carrier !== carrier)
      .catch(failed('failover'));
    await checkAll(problems).catch(failed('failed over'));
    await sleep(BETWEEN_MS);
    const gaps = await Promise.all(STEADY.map((name) => client.do('steadyGap', { name })));
    const survivor = rig[carrier === 'primary' ? 'secondary' : 'primary'];
    problems.push(...survivor.damage());
    const figures = { gapMs: Math.max(...gaps), ...timeline(proxy.logFile, survivor, killedAtMs, undefined) };
    told({ round, moment, phase, ok: problems.length === 0, problems, figures });
    if (problems.length > 0) return;
  }
  for (const name of STEADY) {
    const { error } = await client.do('stopSteady', { name });
    if (error) throw new Error(`${name}: ${error}`);
  }
}
