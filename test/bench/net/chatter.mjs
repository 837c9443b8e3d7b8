// Preloaded into the program that is measured: log lines beside the frames, in bursts.
import { isMainThread } from 'node:worker_threads';
import { createStandardLog } from '../../../dist/observe/log.js';
import { realClock } from '../../../dist/system/clock.js';

const PERIOD_MS = 10;
const BURST_LINES = 20;

if (isMainThread) {
  const { log } = createStandardLog({ level: 'debug', format: 'json', base: { pair: 'bench' } }, realClock);
  setInterval(() => {
    for (let line = 0; line < BURST_LINES; line += 1) {
      log.debug({ direction: 'out', word: 'vmstate-send', phase: 'loading', line }, 'sync-point');
    }
  }, PERIOD_MS).unref();
}
