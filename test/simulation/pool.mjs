import { fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';

const WORKER = fileURLToPath(new URL('worker.mjs', import.meta.url));
/** A world that hangs without simulated time passing. */
const PLAN_MS_MAX = 120_000;

/**
 * Runs plans on every core until `next` gives undefined. `next` gives `{plan, copies, minimiseRunsMax, ...anything}`;
 * `tell(job, answer)` may return false to end early. `answer.result` is what runTrial gave.
 */
export async function runPlans(dist, next, tell, workers = availableParallelism()) {
  let ended = false;
  await Promise.all(Array.from({ length: workers }, work));

  async function work() {
    let child = await start();
    try {
      for (let job = next(); job !== undefined && !ended; job = next()) {
        const answer = await ask(child, job);
        if (answer.died) child = await start();
        if (tell(job, answer) === false) ended = true;
      }
    } finally {
      child.kill('SIGKILL');
    }
  }

  async function start() {
    const child = fork(WORKER, [dist], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    await new Promise((resolve, reject) => {
      child.once('message', resolve);
      child.once('exit', () => reject(new Error('a worker of the simulation could not start')));
    });
    child.removeAllListeners('exit');
    return child;
  }
}

function ask(child, { plan, copies = 0, minimiseRunsMax = 0 }) {
  return new Promise((resolve) => {
    const lost = (what) => () => {
      child.kill('SIGKILL');
      const violation = { invariant: 'crash', atMs: 0, what };
      const result = { violation, simulatedMs: 0, steps: 0, faults: {}, gapMsMax: 0, timeline: [] };
      const totals = { steps: 0, simulatedMs: 0, copies: 0 };
      settle({ died: true, cpuMs: 0, smaller: null, plan, totals, result });
    };
    const died = lost('the process died');
    const timer = setTimeout(lost(`no end within ${PLAN_MS_MAX} ms`), PLAN_MS_MAX * (1 + minimiseRunsMax));
    const settle = (answer) => {
      clearTimeout(timer);
      child.off('exit', died);
      child.off('message', settle);
      resolve(answer);
    };
    child.once('exit', died);
    child.once('message', settle);
    child.send({ plan, copies, minimiseRunsMax });
  });
}
