// One core of the simulation: gets plans, runs them, tells what came of each.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const trials = join(process.argv[2], 'simulation', 'trial');
const { runTrial } = await import(pathToFileURL(join(trials, 'trial.js')));
const { minimise } = await import(pathToFileURL(join(trials, 'minimise.js')));

let unhandled = null;
process.on('unhandledRejection', (error) => {
  unhandled ??= error?.stack ?? String(error);
});
process.on('uncaughtException', (error) => {
  unhandled ??= error?.stack ?? String(error);
});

/** Failing over copies of the world at some of its steps: what the clients have seen, the survivor must go on from. */
async function runCopies(plan, { moments }, copies) {
  for (const [index, moment] of moments.slice(0, copies).entries()) {
    const death = { ...moment, victim: (plan.seed + index) % 4 === 3 ? 'other' : 'carrier' };
    const copy = { ...plan, death };
    const result = await runTrial(copy);
    totals.steps += result.steps;
    totals.simulatedMs += result.simulatedMs;
    totals.copies++;
    if (result.violation !== null) return { plan: copy, result };
  }
  return null;
}

let totals;
process.on('message', async ({ job, plan: asked, copies, minimiseRunsMax }) => {
  const startedMs = process.cpuUsage();
  totals = { steps: 0, simulatedMs: 0, copies: 0 };
  let plan = asked;
  let result = await runTrial(plan);
  if (result.violation === null && copies > 0) {
    const failed = await runCopies(plan, result, copies);
    if (failed !== null) ({ plan, result } = failed);
  }
  const { user, system } = process.cpuUsage(startedMs);
  if (result.violation === null && unhandled !== null) {
    result = { ...result, violation: { invariant: 'crash', atMs: result.simulatedMs, what: unhandled } };
  }
  unhandled = null;
  let smaller = null;
  if (result.violation !== null && minimiseRunsMax > 0) {
    const simplest = await minimise(plan, result.violation.invariant, minimiseRunsMax);
    smaller = { plan: simplest, result: await runTrial(simplest) };
  }
  process.send({ job, plan, result, smaller, totals, cpuMs: (user + system) / 1000 });
});
process.on('disconnect', () => process.exit());
process.send({ ready: true });
