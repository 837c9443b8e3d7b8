// Does the simulation see what it claims to see? Each deliberate fault is put into a copy of the build, and some seed
// must be violated: `npm run simulate:mutants -- [--seeds COUNT] [--seed FIRST] [--only WORDS]`. Exit code 1 when one survives.
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { MUTANTS } from './mutant-list.mjs';
import { runPlans } from './pool.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const PLACE = join(ROOT, '.cache', 'mutants', String(process.pid));

const { values: options } = parseArgs({
  options: {
    /** Each mutant must be caught within so many random seeds, after the directed ones. */
    seeds: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
    dist: { type: 'string', default: join(ROOT, 'dist') },
  },
});

const { makePlan, directedPlans } = await import(
  pathToFileURL(join(options.dist, 'simulation', 'trial', 'plan.js'))
);

/** A copy of the build with one fault. Throws when the place of the fault is not there any more. */
function build(mutant) {
  rmSync(PLACE, { recursive: true, force: true });
  mkdirSync(PLACE, { recursive: true });
  const dist = join(PLACE, 'dist');
  cpSync(options.dist, dist, { recursive: true, filter: (path) => !path.endsWith('.map') });
  for (const shared of ['native', 'node_modules']) symlinkSync(join(ROOT, shared), join(PLACE, shared));
  cpSync(join(ROOT, 'package.json'), join(PLACE, 'package.json'));
  const file = join(dist, mutant.in);
  const source = readFileSync(file, 'utf8');
  let at = -1;
  for (let nth = 0; nth < (mutant.nth ?? 1); nth++) {
    at = source.indexOf(mutant.find, at + 1);
    if (at < 0) throw new Error(`${mutant.in} has no more ${JSON.stringify(mutant.find)}`);
  }
  writeFileSync(file, source.slice(0, at) + mutant.put + source.slice(at + mutant.find.length));
  return dist;
}

function* plans() {
  const first = Number(options.seed);
  const directed = directedPlans(first);
  for (let index = 0; index < Number(options.seeds); index++) {
    yield makePlan(first + index);
    if (index < directed.length) yield directed[(index * 7) % directed.length];
  }
}

async function hunt(dist) {
  const queue = plans();
  let trials = 0;
  let caught = null;
  await runPlans(
    dist,
    () => {
      const { value } = queue.next();
      return value && { plan: value };
    },
    (_job, { result }) => {
      trials++;
      if (result.violation !== null) caught ??= { trials, invariant: result.violation.invariant };
      return caught === null;
    },
  );
  return { caught, trials };
}

let survivors = 0;
const chosen = MUTANTS.filter(({ name }) => name.includes(options.only));
for (const mutant of chosen) {
  let said;
  try {
    const { caught, trials } = await hunt(build(mutant));
    if (caught === null) survivors++;
    said = caught === null ? `SURVIVED ${trials} trials` : `${caught.invariant}, trial ${caught.trials}`;
  } catch (error) {
    survivors++;
    said = `NOT TRIED: ${error.message}`;
  }
  console.log(`${mutant.name.padEnd(52)}  ${said}`);
}
rmSync(PLACE, { recursive: true, force: true });
console.log(`${chosen.length - survivors} of ${chosen.length} mutants caught`);
process.exitCode = survivors === 0 ? 0 : 1;
