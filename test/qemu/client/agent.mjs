/**
 * A process inside one network namespace that runs jobs for the laboratory outside: messages {id, job, args} are
 * answered by {id, result} or {id, error}. It ends when its parent goes.
 */
import { jobs } from './jobs.mjs';

process.on('message', async ({ id, job, args }) => {
  try {
    process.send({ id, result: await jobs[job](args) });
  } catch (error) {
    process.send({ id, error: error.message });
  }
});
process.on('disconnect', () => process.exit(0));
