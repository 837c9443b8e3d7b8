/** What etcd, or whoever listens in its place, answers to a claim: a yes must be one, and end with the lease. */
import { hostileJson, must } from './kit.mjs';

const LEASE_MS = 3000;
const MARGIN_MS = 500;
const GENERATION = 4;

export async function make(load) {
  const { EtcdArbiter } = await load('failover/arbiter-etcd.js');
  const { answerWithin } = await load('failover/arbiter.js');
  const { ManualClock } = await load('system/manual-clock.js');
  const claimant = { pair: 'web', owner: 'me', process: 'p1' };
  const base64 = (text) => Buffer.from(text).toString('base64');
  const kvs = (...values) =>
    JSON.stringify({
      responses: values.map((value) => ({
        response_range: value === '' ? {} : { kvs: [{ value: base64(value), mod_revision: '9' }] },
      })),
    });
  const granted = JSON.stringify({ ID: '77', TTL: '3' });
  const put = JSON.stringify({ succeeded: true });
  const renewed = JSON.stringify({ result: { ID: '77', TTL: '3' } });
  const conversation = (...lines) => Buffer.from(lines.join('\n'));

  const arbiter = {
    seeds: [
      conversation(kvs('4 me', ''), granted, put, renewed),
      conversation(kvs('', ''), granted, put, renewed),
      conversation(kvs('4 me', ''), granted, '{"succeeded": false}', renewed),
      conversation(kvs('9 other', 'p2'), granted, put),
      conversation(kvs('4 me', ''), granted, put, '{"result": {"ID": "77"}}'),
    ],
    tokens: ['"kvs"', '"value"', '"TTL": "1e9"', '"TTL": -1', '"succeeded": true', 'null', '[]', '{}'].map(
      (text) => Buffer.from(text),
    ),
    /** One line an answer; one of them perhaps with a value of another type. */
    async run(bytes, random) {
      const lines = bytes.toString('utf8').split('\n');
      const at = random() % (2 * lines.length);
      if (at < lines.length) lines[at] = hostileJson(lines[at], random);
      const clock = new ManualClock();
      const real = globalThis.fetch;
      let asked = 0;
      globalThis.fetch = async () => {
        clock.advance(random() % 100);
        return new Response(lines[asked++] ?? '', { status: random() % 32 === 0 ? 500 : 200 });
      };
      try {
        const limits = { leaseMs: LEASE_MS, marginMs: MARGIN_MS };
        const one = new EtcdArbiter({ endpoints: ['http://x'], prefix: '/colo' }, claimant, limits, clock);
        const claim = { reason: 'start', seat: 'primary', generation: GENERATION };
        const answer = await answerWithin(clock, 60_000, (signal) => one.claim(claim, signal));
        must(['won', 'lost', 'unknown'].includes(answer.outcome), 'neither yes nor no nor unknown');
        if (answer.outcome !== 'won') return;
        must(
          answer.generation > GENERATION && Number.isSafeInteger(answer.generation),
          'won, in no new generation',
        );
        must(JSON.parse(lines[2]).succeeded === true, 'won, and etcd did not say so');
        const again = await answerWithin(clock, 60_000, (signal) => one.renew(signal));
        for (const { outcome, heldUntilMs } of [answer, again]) {
          must(
            outcome !== 'won' || heldUntilMs <= clock.now() + LEASE_MS - MARGIN_MS,
            'held beyond the lease',
          );
        }
      } finally {
        globalThis.fetch = real;
      }
    },
  };
  return { arbiter };
}
