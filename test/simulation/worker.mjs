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

process.on('message', async ({ job, plan, minimiseRunsMax }) => {
  const startedMs = process.cpuUsage();
  let result = await runTrial(plan);
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
  process.send({ job, result, smaller, cpuMs: (user + system) / 1000 });
});
process.on('disconnect', () => process.exit());
process.send({ ready: true });
