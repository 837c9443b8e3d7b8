/** What a failover's time went into, from the proxy's log, QEMU's own events and the client, all by one clock. */
import fs from 'node:fs';

/** Lines of the proxy's log that mark a step. */
const STEPS = [
  ['noticedMs', /"msg":"the primary (died|is lost)/],
  ['overMs', /"msg":"failed-over: /],
];

/**
 * Milliseconds since `killedAtMs`: the proxy has noticed, roles are changed and output leaves, QEMU runs the guest
 * again (the survivor is stopped for a moment by x-colo-lost-heartbeat itself), the client has its next answer.
 * @param {string} logFile @param {import('../qemu/lib/vm.mjs').Vm} survivor
 */
export function timeline(logFile, survivor, killedAtMs, answeredAtMs) {
  const lines = fs.readFileSync(logFile, 'utf8').split('\n').slice(-4000);
  const steps = {};
  for (const line of lines) {
    for (const [name, pattern] of STEPS) {
      if (!pattern.test(line)) continue;
      const atMs = Date.parse(/"time":"([^"]+)"/.exec(line)[1]);
      if (atMs >= Math.floor(killedAtMs)) steps[name] ??= atMs - killedAtMs;
    }
  }
  const events = survivor.monitor.events.filter(({ atMs }) => atMs >= killedAtMs);
  const first = (name) => events.find((event) => event.name === name)?.atMs - killedAtMs;
  return {
    ...steps,
    stopMs: first('STOP'),
    resumeMs: first('RESUME'),
    answeredMs: answeredAtMs - killedAtMs,
  };
}
