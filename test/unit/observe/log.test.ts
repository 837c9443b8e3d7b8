import { describe, expect, it } from 'vitest';
import { ColoError } from '../../../src/errors.js';
import { createLog } from '../../../src/observe/log.js';
import { LineLimiter } from '../../../src/system/line-limiter.js';
import { ManualClock } from '../../../src/system/manual-clock.js';

function logged(format: 'json' | 'pretty' | 'auto', isTTY: boolean): string {
  let text = '';
  const output = {
    write: (line: string) => {
      text += line;
    },
  };
  const log = createLog({ level: 'info', format, base: { pair: 'web' }, output, isTTY });
  log.debug({}, 'not shown');
  log.warn({ epoch: 3, err: new ColoError('COLO_ERR_PHASE_LIMIT', 'loading took too long') }, 'given up');
  return text;
}

describe('log', () => {
  it('JSON: one object a line, errors as code and message', () => {
    const line = JSON.parse(logged('json', true));
    expect(line).toMatchObject({
      level: 'warn',
      pair: 'web',
      epoch: 3,
      err: { code: 'COLO_ERR_PHASE_LIMIT', message: 'loading took too long' },
      msg: 'given up',
    });
    expect(line.err.stack).toBeUndefined();
    expect(JSON.parse(logged('auto', false)).msg).toBe('given up');
  });

  it('pretty on a terminal', () => {
    const text = logged('auto', true);
    expect(text).toContain('given up');
    expect(text).toContain('WARN');
    expect(() => JSON.parse(text)).toThrow();
  });
});

describe('line limiter', () => {
  it('lets a burst through, then the rate, and tells what was left out', () => {
    const clock = new ManualClock();
    const limiter = new LineLimiter(clock, { burstLines: 2, linesPerSecond: 1 });
    expect([limiter.take(), limiter.take(), limiter.take(), limiter.take()]).toEqual([0, 0, -1, -1]);
    clock.advance(1000);
    expect([limiter.take(), limiter.take()]).toEqual([2, -1]);
    clock.advance(3_600_000);
    expect([limiter.take(), limiter.take(), limiter.take()]).toEqual([1, 0, -1]);
  });
});
