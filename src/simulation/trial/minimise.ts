import type { Plan } from './plan.js';
import { runTrial } from './trial.js';
import type { Invariant } from './violation.js';

/** Plans that are one thing simpler, the largest cuts first. */
function* simpler(plan: Plan): Generator<Plan> {
  for (let index = 0; index < plan.faults.length; index++) {
    yield { ...plan, faults: plan.faults.filter((_fault, at) => at !== index) };
  }
  for (let index = 0; index < plan.tasks.length && plan.tasks.length > 1; index++) {
    yield { ...plan, tasks: plan.tasks.filter((_task, at) => at !== index) };
  }
  for (const part of Object.keys(plan.world) as (keyof Plan['world'])[]) {
    const { [part]: _left, ...world } = plan.world;
    yield { ...plan, world };
  }
  if (plan.tight) yield { ...plan, tight: false };
  for (const [index, task] of plan.tasks.entries()) {
    if (task.size < 4) continue;
    const tasks = plan.tasks.map((each, at) => (at === index ? { ...each, size: each.size >> 1 } : each));
    yield { ...plan, tasks };
  }
}

/** The simplest plan found that still breaks the same invariant, trying at most `runsMax` times. */
export async function minimise(plan: Plan, invariant: Invariant, runsMax: number): Promise<Plan> {
  const { death, ...rest } = plan;
  let best: Plan =
    death === undefined ? plan : { ...rest, death: { step: death.step, victim: death.victim } };
  let runs = 0;
  for (let isBetter = true; isBetter; ) {
    isBetter = false;
    for (const candidate of simpler(best)) {
      if (++runs > runsMax) return best;
      if ((await runTrial(candidate)).violation?.invariant !== invariant) continue;
      best = candidate;
      isBetter = true;
      break;
    }
  }
  return best;
}
