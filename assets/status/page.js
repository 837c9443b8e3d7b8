/* The status page: draws what /api/events tells, once a second. */
'use strict';

const SAMPLES_MAX = 900;
const CAUSES = ['protect', 'divergence', 'one-sided', 'limit', 'period', 'operator', 'vm'];
const MOODS = { protected: 'good', checkpointing: 'good', starting: 'warn', resyncing: 'warn', 'failed-over': 'bad', unprotected: 'bad' };
const at = (id) => document.getElementById(id);
const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);

function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let left = value;
  while (left >= 1024 && unit < units.length - 1) {
    left /= 1024;
    unit++;
  }
  return `${unit === 0 || left >= 100 ? Math.round(left) : left.toFixed(1)} ${units[unit]}`;
}
const rate = (value) => `${bytes(value)}/s`;
const number = (value) => value.toLocaleString('en');
const duration = (ms) => (ms < 1000 ? `${+ms.toPrecision(3)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** Text only ever becomes text: nothing from the network is read as HTML. */
function element(tag, text, ...children) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  made.append(...children);
  return made;
}
const fill = (id, children) => at(id).replaceChildren(...children);
const row = (...cells) => element('tr', null, ...cells.map((cell) => element('td', cell)));

const charts = {
  throughput: makeChart('throughput', [{ label: 'to clients', colour: '--a' }, { label: 'from clients', colour: '--b' }], rate),
  held: makeChart('held', [{ label: 'held', colour: '--a' }, { label: 'at the gate', colour: '--b' }], bytes),
  checkpoints: makeChart(
    'checkpoints',
    CAUSES.map((label, index) => ({ label, colour: `--${'abcdefg'[index]}` })),
    (value) => `${+value.toFixed(1)}/s`,
  ),
};
let samples = [];

/** The growth per second between neighbours of what `read` takes from a sample. */
function growth(read) {
  return samples.map((sample, index) => {
    const before = samples[index - 1];
    if (!before) return null;
    const grown = read(sample) - read(before);
    return grown < 0 ? null : (grown * 1000) / Math.max(1, sample.wallMs - before.wallMs);
  });
}

function drawCharts() {
  const times = samples.map((sample) => sample.wallMs / 1000);
  const out = growth((sample) => sample.bytesReleased);
  const into = growth((sample) => sample.bytesFromClients);
  charts.throughput.set([times, out, into]);
  charts.held.set([times, samples.map((one) => one.heldBytes), samples.map((one) => one.gateBytes)]);
  charts.checkpoints.set([times, ...CAUSES.map((cause) => growth((sample) => sample.checkpoints[cause] ?? 0))]);
  const last = samples.at(-1);
  if (!last) return;
  at('throughput-text').textContent = `Now ${rate(out.at(-1) ?? 0)} to clients, ${rate(into.at(-1) ?? 0)} from clients.`;
  at('held-text').textContent = `Now ${bytes(last.heldBytes)} held, ${bytes(last.gateBytes)} waiting at the gate.`;
  const causes = Object.entries(last.checkpoints).filter(([, count]) => count > 0);
  at('checkpoints-text').textContent =
    causes.length === 0 ? 'None yet.' : `Since the start: ${causes.map(([cause, count]) => `${cause} ${number(count)}`).join(', ')}.`;
}

function drawHistogram(id, { boundsMs, counts, sumMs, count }) {
  const most = Math.max(1, ...counts);
  const rows = Array.from(counts, (value, index) => {
    const label = index < boundsMs.length ? `≤ ${duration(boundsMs[index])}` : `> ${duration(boundsMs.at(-1))}`;
    const bar = element('span');
    bar.style.width = `${(100 * value) / most}%`;
    const cell = element('td', null, bar);
    cell.className = 'bar';
    const head = element('th', label);
    head.scope = 'row';
    return element('tr', null, head, cell, element('td', number(value)));
  });
  const mean = count === 0 ? 'none yet' : `mean ${duration(sumMs / count)}, ${number(count)} in all`;
  fill(id, [element('caption', mean), ...rows]);
}

function printable(hex) {
  const codes = hex.match(/../g) ?? [];
  return codes.map((code) => Number.parseInt(code, 16)).map((code) => (code >= 32 && code < 127 ? String.fromCharCode(code) : '·')).join('');
}
const spaced = (hex) => (hex.match(/../g) ?? ['nothing']).slice(0, 24).join(' ');

const opened = new Set();
function divergenceItem(one) {
  const details = element('details');
  details.open = opened.has(one.id);
  details.addEventListener('toggle', () => (details.open ? opened.add(one.id) : opened.delete(one.id)));
  const side = (name, hex) => [`${name.padEnd(10)}${printable(one.before)}`, element('mark', printable(hex)), `\n${' '.repeat(10)}${spaced(hex)}\n`];
  const pre = element('pre', null, ...side('primary', one.primary), ...side('secondary', one.secondary));
  const file = one.file ? `Frames of the client and both sides: ${one.file}` : 'Frames were not kept.';
  details.append(
    element('summary', null, element('time', clock(one.wallMs)), `#${one.id} ${one.summary}`),
    element('p', one.advice),
    pre,
    element('p', file),
  );
  return element('li', null, details);
}

let drawnDivergences = '';
function drawDivergences(divergences) {
  const key = divergences.map((one) => one.id).join();
  if (key === drawnDivergences) return;
  drawnDivergences = key;
  at('divergences-none').hidden = divergences.length > 0;
  fill('divergences', divergences.map(divergenceItem));
}

/** While a fresh secondary is being made the copy of the primary. */
function drawCopy(copy) {
  at('copy').hidden = copy === null;
  if (copy === null) return;
  const share = copy.bytesTotal === 0 ? 0 : Math.min(1, copy.bytesDone / copy.bytesTotal);
  const left = copy.msLeft === null ? '' : `, about ${Math.ceil(copy.msLeft / 1000)} s left`;
  at('copy-share').value = share;
  at('copy-text').textContent = `Copying the ${copy.stage}: ${Math.floor(100 * share)} % of ${bytes(copy.bytesTotal)}${left}`;
}

function drawStatus(status) {
  at('name').textContent = status.name;
  document.title = `${status.state} · ${status.name} · colo-proxy`;
  const state = at('state');
  const text = status.state.replace('-', ' ');
  if (state.textContent !== text) state.textContent = text;
  state.dataset.mood = MOODS[status.state] ?? 'warn';
  const carrier = status.carrier === 'none' ? 'Nobody' : `The ${status.carrier}`;
  drawCopy(status.copy);
  at('carrier').textContent = `${carrier} carries the traffic. Phase ${status.phase}, epoch ${number(status.epoch)}.`;
  fill('parts', status.parts.filter((part) => !part.ready).map((part) => element('li', `${part.name}: ${part.detail}`)));
  const pauseMean = status.pause.count === 0 ? '–' : duration(status.pause.sumMs / status.pause.count);
  const figures = [
    ['Held', bytes(status.heldBytes)],
    ['Flows', number(status.flows)],
    ['Checkpoints', number(sum(status.checkpoints))],
    ['Mean pause', pauseMean],
    ['Divergences', number(sum(status.divergences))],
    ['Waived', bytes(status.bytesReleased.waived)],
    ['Failovers', number(sum(status.failovers))],
  ];
  fill('numbers', figures.map(([name, value]) => element('div', null, element('dt', name), element('dd', value))));
  drawHistogram('latency', status.releaseLatency);
  drawHistogram('pause', status.pause);
  const released = Object.entries(status.framesReleased).map(([why, frames]) => row(`released: ${why}`, number(frames), bytes(status.bytesReleased[why])));
  const dropped = Object.entries(status.drops).filter(([, frames]) => frames > 0).map(([why, frames]) => row(`dropped: ${why}`, number(frames), ''));
  const waived = status.waivers.map(({ rule, why, frames, bytes: size }) => row(`waived by ${rule === 'link-control' ? rule : `rule ${rule}`}: ${why}`, number(frames), bytes(size)));
  fill('released', [...released, ...waived, ...dropped]);
  fill('links', status.links.map(({ side, state: linkState, counters }) =>
    row(side, linkState, bytes(counters.bytesReceived), bytes(counters.bytesSent), number(counters.sendDrops + counters.receiveDrops))));
}

function drawRest({ events, flows, divergences }) {
  fill('history', events.toReversed().slice(0, 100).map((one) => element('li', null, element('time', clock(one.wallMs)), `${one.kind}: ${one.text}`)));
  fill('flows', flows.map((one) => row(one.flow, bytes(one.heldBytes), duration(one.idleMs))));
  drawDivergences(divergences);
}

function connect() {
  const source = new EventSource('/api/events');
  const say = (text, isLost) => {
    at('connection').textContent = text;
    at('connection').toggleAttribute('data-lost', isLost);
  };
  source.addEventListener('past', (message) => {
    samples = JSON.parse(message.data).samples;
  });
  source.addEventListener('now', (message) => {
    const now = JSON.parse(message.data);
    if (now.sample && now.sample.wallMs !== samples.at(-1)?.wallMs) samples.push(now.sample);
    if (samples.length > SAMPLES_MAX) samples.shift();
    drawStatus(now.status);
    drawRest(now);
    drawCharts();
    say('live', false);
  });
  source.addEventListener('error', () => say('connection lost, trying again …', true));
}

at('actions').addEventListener('submit', async (submit) => {
  submit.preventDefault();
  const verb = submit.submitter?.value ?? 'checkpoint';
  if (verb === 'switchover' && !confirm('Let the secondary carry the traffic?')) return;
  const result = at('action-result');
  result.textContent = `${verb} …`;
  try {
    const answer = await fetch(`/api/${verb}`, { method: 'POST', headers: { authorization: `Bearer ${at('token').value}` } });
    const text = await answer.text();
    result.textContent = answer.ok ? `${verb}: done. ${text}` : `${verb} was refused: ${text}`;
  } catch (error) {
    result.textContent = `${verb} failed: ${error.message}`;
  }
});

matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => Object.values(charts).forEach((chart) => chart.repaint()));
connect();
