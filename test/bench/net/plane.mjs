// The data plane alone, between two VMs' interfaces and a client interface, for the benchmarks: links as in the
// product, no VM to be checkpointed. `compared` compares; `uncompared` mirrors and reads all the same and releases what
// the primary sends at once. (Real connections lose their secondary in that: it is acknowledged what it has not sent.)
//   node plane.mjs compared|uncompared PRIMARY SECONDARY CLIENT BUSY_POLL_US [create] [delays]
import { monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks';
import { Comparator } from '../../../dist/compare/comparator.js';
import { DEFAULT_COMPARE_LIMITS, Verdict } from '../../../dist/compare/verdict.js';
import { DataPlane } from '../../../dist/dataplane/data-plane.js';
import { createLink } from '../../../dist/link/factory.js';
import { DEFAULT_LINK_OPTIONS } from '../../../dist/link/options.js';
import { busyPoll } from '../../../dist/system/busy-poll.js';
import { realClock } from '../../../dist/system/clock.js';

const [kind, primary, secondary, client, busyPollUs, ...wishes] = process.argv.slice(2);

class Uncompared extends Comparator {
  #sink;

  constructor(flows, limits, sink, rules) {
    super(flows, limits, sink, rules);
    this.#sink = sink;
  }

  primary(view, flow) {
    const { bytes, start, end, vnetHeaderBytes } = view;
    this.#sink.release(bytes, start, end - start, vnetHeaderBytes, flow, 'matched', 0);
    return Verdict.RELEASE;
  }

  secondary() {}
}

busyPoll(Number(busyPollUs));
const options = DEFAULT_LINK_OPTIONS;
const vmInterface = { instance: 'bench', create: true, isolate: true };
const vm = (name) => createLink(`packet:${name}`, options, wishes.includes('create') ? { vmInterface } : {});
let divergences = 0;
let latest = '';
const plane = new DataPlane({
  links: { client: createLink(client, options), primary: vm(primary), secondary: vm(secondary) },
  clock: realClock,
  limits: {
    gate: { framesMax: 16_384, bytesMax: 1 << 25 },
    parked: { framesMax: 4096, bytesMax: 1 << 24 },
    broadcastPerSecondMax: 10_000,
    compare: DEFAULT_COMPARE_LIMITS,
  },
  flowSeed: 7,
  ...(kind === 'uncompared' && { makeComparator: (...needs) => new Uncompared(...needs) }),
  events: {
    diverged: ({ reason, flow }) => {
      divergences += 1;
      latest = `${reason} ${flow}`;
    },
    linkChanged() {},
    looped() {},
    signedUntranslated() {},
  },
});

const delay = monitorEventLoopDelay({ resolution: 1 });
let pauseMsMax = 0;
let pauses = 0;
new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) {
    pauses += 1;
    pauseMsMax = Math.max(pauseMsMax, duration);
  }
}).observe({ entryTypes: ['gc'] });

await plane.open();
await plane.commit();
// it looks a thousand times a second, which others would measure
if (wishes.includes('delays')) delay.enable();
console.log('ready');

/** Each line asked for is answered with what has been seen since the last one. */
process.stdin.on('data', () => {
  const { links, counters, comparator, flows } = plane;
  console.log(
    JSON.stringify({
      isUp: Object.values(plane.links).every(({ state }) => state === 'up'),
      rssMiB: process.memoryUsage.rss() / 2 ** 20,
      heapMiB: process.memoryUsage().heapUsed / 2 ** 20,
      delayP999Ms: delay.percentile(99.9) / 1e6 - 1,
      gcPauseMsMax: pauseMsMax,
      gcPauses: pauses,
      divergences,
      latest,
      held: comparator.heldFrames,
      flows: flows.count,
      undelivered: counters.undelivered,
      drops: counters.drops,
      links: Object.fromEntries(Object.entries(links).map(([side, link]) => [side, link.counters])),
    }),
  );
  delay.reset();
  pauseMsMax = 0;
  pauses = 0;
});
process.stdin.on('end', async () => {
  await plane.close();
  process.exit(0);
});
