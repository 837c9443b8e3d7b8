/** Point 2: answers that differ between the VMs lead to a checkpoint, and the client gets the primary's bytes. */
import { sleep } from '../lib/command.mjs';
import { GUEST } from '../lib/net.mjs';

/** More than checkpoint.distanceMsMin, so that each answer asks for a checkpoint of its own. */
const PAUSE_MS = 150;
const BELOW_CHECKPOINT_MS_MAX = 10_000;

export async function divergence(rig, section, sizes) {
  const point = section.at('2 divergence');
  const { client } = rig;
  const before = await rig.steadyReading();
  const answers = [];
  let withoutCheckpoint = 0;
  let slowestMs = 0;
  await client.do('openConnection', { name: 'differing', host: GUEST.ipv4 });
  for (let i = 0; i < sizes.divergences; i++) {
    const { epoch } = await rig.proxy.metrics();
    const started = performance.now();
    try {
      answers.push(await ask(client, i));
    } catch (error) {
      point.expect(`differing answer ${i + 1}`, false, error.message);
      break;
    }
    slowestMs = Math.max(slowestMs, performance.now() - started);
    const after = await rig.proxy
      .until('a checkpoint', BELOW_CHECKPOINT_MS_MAX, (m) => m.epoch > epoch)
      .catch(() => undefined);
    if (!after) withoutCheckpoint++;
    await sleep(PAUSE_MS);
  }
  await client.do('closeConnection', { name: 'differing' });

  // The guests' serial logs say what each VM answered.
  const primary = rig.primary.differingAnswers();
  const secondary = rig.secondary.differingAnswers();
  const ofPrimary = answers.filter((text) => primary.has(text)).length;
  const ofSecondary = answers.filter((text) => secondary.has(text)).length;
  const count = answers.length;
  point.expect(
    `${sizes.divergences} answers are the primary's`,
    count === sizes.divergences && ofPrimary === count,
    `${ofPrimary} of ${count}, slowest ${slowestMs.toFixed(0)} ms`,
    { slowestMs },
  );
  point.expect("none is the secondary's", ofSecondary === 0, String(ofSecondary));
  const differing = [...secondary].filter((text) => !primary.has(text)).length;
  point.expect('the secondary answered otherwise', differing > 0, `${differing} times`);
  point.expect('each led to a checkpoint', withoutCheckpoint === 0, `${withoutCheckpoint} did not`);

  const after = await rig.steadyReading();
  const metrics = section.at('4 metrics');
  const found = (labels) =>
    after.metrics.sum('divergences_total', labels) - before.metrics.sum('divergences_total', labels);
  metrics.expect(
    'divergences counted',
    found({}) >= count && found({ reason: 'payload' }) > 0,
    after.metrics.text('divergences_total'),
  );
  const taken = after.metrics.checkpoints - before.metrics.checkpoints;
  const resumes = after.resumes - before.resumes;
  const causes = after.metrics.text('checkpoints_total');
  metrics.expect(
    'checkpoints = RESUME events',
    taken === resumes && taken >= count,
    `${taken} and ${resumes}: ${causes}`,
  );
}

/** TCP and UDP, IPv4 and IPv6 in turn. */
async function ask(client, i) {
  if (i % 2 === 0) {
    const answer = await client.do('ask', { name: 'differing', request: 'rand' });
    return answer.replace('rand=', '');
  }
  const host = i % 4 === 1 ? GUEST.ipv4 : GUEST.ipv6;
  return client.do('askDifferingDatagram', { host, tag: `request-${i}` });
}
