// The whole world from one seed: `npm run simulate -- [--seeds COUNT] [--seed FIRST] [--steps N]
// [--fault name,...] [--minimise] [--directed | --light] [--copies N] [--seconds N] [--workers N]`. Exit code 1 on any violation.
import { execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { runPlans } from './pool.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MINIMISE_RUNS_MAX = 60;
const TIMELINE_LINES_SHOWN = 120;
const FAILURES_SHOWN_MAX = 5;

const { values: options } = parseArgs({
  options: {
    seeds: { type: 'string' },
    seed: { type: 'string' },
    steps: { type: 'string' },
    fault: { type: 'string' },
    minimise: { type: 'boolean', default: false },
    directed: { type: 'boolean', default: false },
    /** Quiet worlds: how fast simulated time goes. */
    light: { type: 'boolean', default: false },
    /** Copies of each world that are failed over, at steps of their own. */
    copies: { type: 'string', default: '1' },
    /** Ends beginning new seeds after this long. */
    seconds: { type: 'string' },
    /** Processes at a time; one for each core when absent. */
    workers: { type: 'string' },
    dist: { type: 'string', default: join(ROOT, 'dist') },
  },
});

const { FAULTS, makePlan, directedPlans, directedHarmlessPlans, lightPlan } = await import(
  pathToFileURL(join(options.dist, 'simulation', 'trial', 'plan.js'))
);

function wholeNumber(name, text) {
  if (!/^\d{1,9}$/.test(text)) usage(`--${name} ${text}: expected a whole number`);
  return Number(text);
}

function usage(text) {
  console.error(text);
  process.exit(2);
}

const first = options.seed === undefined ? randomInt(1_000_000_000) : wholeNumber('seed', options.seed);
const count =
  options.seeds === undefined ? (options.seed === undefined ? 100 : 1) : wholeNumber('seeds', options.seeds);
const faults = options.fault?.split(',');
for (const name of faults ?? []) {
  if (!FAULTS.includes(name)) usage(`--fault ${name}: expected some of ${FAULTS.join(', ')}`);
}
const planOptions = {
  ...(faults === undefined ? {} : { faults }),
  ...(options.steps === undefined ? {} : { steps: wholeNumber('steps', options.steps) }),
};
const endMs =
  options.seconds === undefined ? Infinity : Date.now() + 1000 * wholeNumber('seconds', options.seconds);

function* plans() {
  for (let seed = first; seed < first + count; seed++) {
    if (options.light) yield lightPlan(seed);
    else if (!options.directed) yield makePlan(seed, planOptions);
    else yield* [...directedPlans(seed), ...directedHarmlessPlans(seed)];
  }
}

function commit() {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: ROOT, encoding: 'utf8' }).trim();
  } catch {
    return 'unknown';
  }
}

function commandOf(plan) {
  const words = [`npm run simulate -- --seed ${plan.seed}`];
  if (options.steps !== undefined) words.push(`--steps ${options.steps}`);
  if (options.fault !== undefined) words.push(`--fault ${options.fault}`);
  if (options.directed) words.push('--directed');
  if (options.light) words.push('--light');
  return words.join(' ');
}

const copies = wholeNumber('copies', options.copies);
const total = { trials: 0, copies: 0, steps: 0, simulatedMs: 0, cpuMs: 0 };
const struck = Object.fromEntries(FAULTS.map((name) => [name, 0]));
const failures = [];
const queue = plans();
console.log(`seeds from ${first}, commit ${commit()}`);

await runPlans(
  options.dist,
  () => {
    if (Date.now() > endMs) return undefined;
    const { value } = queue.next();
    return value && { plan: value, copies, minimiseRunsMax: options.minimise ? MINIMISE_RUNS_MAX : 0 };
  },
  (_job, { plan, result, smaller, totals, cpuMs }) => {
    total.trials++;
    total.copies += totals.copies;
    total.steps += result.steps + totals.steps;
    total.simulatedMs += result.simulatedMs + totals.simulatedMs;
    if (smaller === null) total.cpuMs += cpuMs;
    else total.simulatedMs -= result.simulatedMs + totals.simulatedMs; // its time went into minimising
    for (const [name, times] of Object.entries(result.faults)) struck[name] += times;
    if (result.violation === null) return;
    failures.push(plan.seed);
    if (failures.length > FAILURES_SHOWN_MAX) return;
    console.log(`\nVIOLATION ${result.violation.invariant}: ${result.violation.what}`);
    console.log(`  again: ${commandOf(plan)}   (commit ${commit()})`);
    const shown = smaller ?? { plan, result };
    if (smaller !== null) console.log(`  minimised: ${JSON.stringify(smaller.plan)}`);
    else if (options.directed) console.log(`  plan: ${JSON.stringify(plan.faults)}`);
    if (plan.death !== undefined) console.log(`  in a copy that fails over: ${JSON.stringify(plan.death)}`);
    for (const line of shown.result.timeline.slice(-TIMELINE_LINES_SHOWN)) console.log(`    ${line}`);
  },
  options.workers === undefined ? undefined : wholeNumber('workers', options.workers),
);

console.log(`\nfaults: ${FAULTS.map((name) => `${name} ${struck[name]}`).join(', ')}`);
const seconds = total.simulatedMs / 1000;
console.log(
  `${total.trials} trials, ${total.copies} copies failed over, ${total.steps} steps, ${seconds.toFixed(0)} simulated seconds, ` +
    `${(seconds / Math.max(0.001, total.cpuMs / 1000)).toFixed(0)} per second of one core`,
);
if (failures.length > 0) console.log(`seeds that failed: ${failures.join(' ')}`);
console.log(`${total.trials - failures.length} held, ${failures.length} violated`);
process.exitCode = failures.length === 0 ? 0 : 1;
