/** `colo-proxy status` and `top`: what a running proxy tells, once or until Ctrl-C. */
import type { PairStatus } from '../pair/status.js';
import type { TopFlow } from '../pair/top-flows.js';
import { realClock, sleep } from '../system/clock.js';
import { askProxy, type ProxyAddress } from './ask.js';
import { statusLines, topLines } from './status-text.js';

const PERIOD_MS = 1000;
/** Home, erase what is right of each line and below: no flicker. */
const HOME = '\x1b[H';
const CLEAR_LINE = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';

export interface WatchOptions {
  readonly watch: boolean;
  readonly json: boolean;
  readonly out: (text: string) => void;
  /** Redraw in place instead of printing one after the other. */
  readonly isTerminal: boolean;
  readonly rows: number;
}

/** Exit code: 0 when protected, 1 when not (as the last status said). */
export async function watchStatus(address: ProxyAddress, options: WatchOptions): Promise<number> {
  for (;;) {
    const status = await askProxy<PairStatus>(address, '/api/status');
    if (options.json) options.out(`${JSON.stringify(status)}\n`);
    else show(statusLines(status), options);
    if (!options.watch) return isProtected(status) ? 0 : 1;
    await sleep(realClock, PERIOD_MS);
  }
}

/** Never resolves: ends with the signal, or rejects when the proxy is gone. */
export async function watchTop(address: ProxyAddress, options: WatchOptions): Promise<number> {
  let before: PairStatus | null = null;
  let beforeMs = 0;
  for (;;) {
    const [status, flows]: [PairStatus, TopFlow[]] = await Promise.all([
      askProxy<PairStatus>(address, '/api/status'),
      askProxy<TopFlow[]>(address, '/api/flows'),
    ]);
    const nowMs = realClock.now();
    show(topLines(status, before, nowMs - beforeMs, flows), options);
    if (!options.watch) return isProtected(status) ? 0 : 1;
    before = status;
    beforeMs = nowMs;
    await sleep(realClock, PERIOD_MS);
  }
}

function isProtected(status: PairStatus): boolean {
  return status.state === 'protected' || status.state === 'checkpointing';
}

function show(lines: readonly string[], { out, isTerminal, watch, rows }: WatchOptions): void {
  if (!isTerminal || !watch) {
    out(`${lines.join('\n')}\n`);
    return;
  }
  const fitting = lines.slice(0, Math.max(1, rows - 1));
  out(`${HOME}${fitting.map((line) => `${line}${CLEAR_LINE}\n`).join('')}${CLEAR_BELOW}`);
}
