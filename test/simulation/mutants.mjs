// Does the simulation see what it claims to see? Each deliberate fault is put into a copy of the build, and some seed
// must be violated: `npm run simulate:mutants -- [--seeds COUNT] [--seed FIRST] [--only WORDS,...] [--workers N] [--again]`.
// Exit code 1 when one survives. What was found for this very build is kept in .cache and not tried again, unless with
// `--again`.
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { MUTANTS } from './mutant-list.mjs';
import { runPlans } from './pool.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CACHE = join(ROOT, '.cache', 'mutants');
const PLACE = join(CACHE, String(process.pid));
/** A prime that divides no number of plans. */
const STRIDE = 1009;
const KEPT = join(CACHE, 'results.json');

const { values: options } = parseArgs({
  options: {
    /** Each mutant must be caught within so many random seeds, with the directed ones between them. */
    seeds: { type: 'string', default: '300' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
    /** Processes at a time; one for each core when absent. */
    workers: { type: 'string' },
    again: { type: 'boolean', default: false },
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

/** A digest of all that decides what the simulation finds. */
function digestOf(folder) {
  const hash = createHash('sha256').update(JSON.stringify([options.seeds, options.seed]));
  const files = readdirSync(folder, { recursive: true }).filter((name) => name.endsWith('.js'));
  for (const name of files.sort()) hash.update(name).update(readFileSync(join(folder, name)));
  return hash.digest('hex');
}

/** Random trials, those with the mutant's own faults (`faults`) and directed ones by turns. */
function* plans({ faults }) {
  const first = Number(options.seed);
  const fits = (plan) => plan.faults.some(({ name }) => faults?.includes(name));
  const all = directedPlans(first);
  const directed = [...all.filter(fits), ...spread(all.filter((plan) => !fits(plan)))];
  for (let index = 0; index < Number(options.seeds); index++) {
    const isOwn = faults !== undefined && index % 2 === 0;
    yield makePlan(first + index, isOwn ? { faults } : {});
    if (index < directed.length) yield directed[index];
  }
}

/** In another order, so that the first few differ. */
function spread(plans) {
  return plans.map((_plan, index) => plans[(index * STRIDE) % plans.length]);
}

async function hunt(mutant, dist) {
  const queue = plans(mutant);
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
      if (result.violation !== null) caught ??= { trials, ...result.violation };
      return caught === null;
    },
    options.workers === undefined ? undefined : Number(options.workers),
  );
  return caught === null
    ? { isCaught: false, said: `SURVIVED ${trials} trials` }
    : { isCaught: true, said: `${caught.invariant}, trial ${caught.trials}`, what: caught.what };
}

const digest = digestOf(options.dist);
const known = !options.again && existsSync(KEPT) ? JSON.parse(readFileSync(KEPT, 'utf8')) : {};
const results = known.digest === digest ? known.results : {};
let survivors = 0;
const words = options.only.split(',');
const chosen = MUTANTS.filter(({ name }) => words.some((word) => name.includes(word)));
for (const mutant of chosen) {
  const key = JSON.stringify(mutant);
  try {
    results[key] ??= await hunt(mutant, build(mutant));
    writeFileSync(KEPT, JSON.stringify({ digest, results }));
  } catch (error) {
    console.log(`${mutant.name.padEnd(56)}  NOT TRIED: ${error.message}`);
    survivors++;
    continue;
  }
  if (!results[key].isCaught) survivors++;
  console.log(`${mutant.name.padEnd(56)}  ${results[key].said}`);
}
rmSync(PLACE, { recursive: true, force: true });
console.log(`${chosen.length - survivors} of ${chosen.length} mutants caught within ${options.seeds} seeds`);
process.exitCode = survivors === 0 ? 0 : 1;
