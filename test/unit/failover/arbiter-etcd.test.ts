import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { answerWithin, type ClaimAnswer } from '../../../src/failover/arbiter.js';
import { EtcdArbiter } from '../../../src/failover/arbiter-etcd.js';
import { realClock, sleep } from '../../../src/system/clock.js';
import { expectRightWithoutGap } from './lease-handover.js';

const LEASE = { leaseMs: 2000, marginMs: 200 };
const START = { reason: 'start', seat: 'primary', generation: 0 } as const;
const none = new AbortController().signal;

function arbiter(owner: string, endpoints: string[], pair = 'web'): EtcdArbiter {
  const claimant = { pair, owner, process: `${owner}-1` };
  return new EtcdArbiter({ endpoints, prefix: '/colo-proxy' }, claimant, LEASE, realClock);
}

async function freePort(): Promise<number> {
  const server = createTcpServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function hasEtcd(): boolean {
  try {
    execFileSync('etcd', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    console.warn('SKIPPED: etcd is not installed (Debian package etcd-server)');
    return false;
  }
}

describe.skipIf(!hasEtcd())('a real etcd', () => {
  let etcd: ChildProcess;
  let folder: string;
  let url: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'colo-etcd-'));
    url = `http://127.0.0.1:${await freePort()}`;
    const peer = `http://127.0.0.1:${await freePort()}`;
    const args = [
      ...['--data-dir', folder, '--listen-client-urls', url, '--advertise-client-urls', url],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
      ...['--initial-cluster', `default=${peer}`, '--log-level', 'error'],
    ];
    etcd = spawn('etcd', args, { stdio: 'ignore' });
    for (;;) {
      const isUp = await fetch(`${url}/health`).then(
        (response) => response.ok,
        () => false,
      );
      if (isUp) return;
      await sleep(realClock, 50);
    }
  }, 30_000);
  afterAll(() => {
    etcd.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  it('of many at once one wins, each generation is one more, and a foreign one is never overruled', async () => {
    const all = ['a', 'b', 'c', 'd', 'e'].map((owner) => arbiter(owner, [url], 'many'));
    const answers = await Promise.all(all.map((one) => one.claim(START, none)));
    const winners = all.filter((_one, index) => answers[index]!.outcome === 'won');
    expect(winners.length).toBe(1);
    const [winner] = winners;
    const second = await winner!.claim(
      { reason: 'promote-secondary', seat: 'secondary', generation: 1 },
      none,
    );
    expect(second).toMatchObject({ outcome: 'won', generation: 2 });
    const other = all.find((one) => one !== winner)!;
    expect((await other.claim(START, none)).outcome).toBe('lost');
    await winner!.release();
    expect(await other.claim(START, none)).toMatchObject({ outcome: 'won', generation: 3 });
    await other.release();
    const late = await winner!.claim({ reason: 'again', seat: 'primary', generation: 2 }, none);
    expect(late).toMatchObject({ outcome: 'lost', detail: expect.stringContaining('has ruled since') });
  });

  it('a lease is held while it is renewed, and is another’s after it ran out', async () => {
    const [first, second] = [arbiter('first', [url], 'lease'), arbiter('second', [url], 'lease')];
    const won = await first.claim(START, none);
    expect(won.outcome).toBe('won');
    const heldUntilMs = (won as Extract<ClaimAnswer, { outcome: 'won' }>).heldUntilMs;
    expect(heldUntilMs).toBeLessThanOrEqual(realClock.now() + LEASE.leaseMs - LEASE.marginMs);
    await sleep(realClock, 1000);
    expect((await first.renew(none)).outcome).toBe('won');
    expect((await second.claim(START, none)).outcome).toBe('lost');
    let answer: ClaimAnswer;
    do {
      await sleep(realClock, 100);
      answer = await second.claim(START, none);
    } while (answer.outcome !== 'won');
    expect(realClock.now()).toBeGreaterThan(heldUntilMs); // never before the first must have stopped
    expect((await first.renew(none)).outcome).toBe('lost');
    await second.release();
  }, 20_000);

  it('a lease goes from process to process without a gap', async () => {
    await expectRightWithoutGap(LEASE.leaseMs, (owner, process, clock) => {
      const claimant = { pair: 'hot', owner, process };
      return new EtcdArbiter({ endpoints: [url], prefix: '/colo-proxy' }, claimant, LEASE, clock);
    });
  }, 20_000);

  it('the second endpoint is asked when the first is not there', async () => {
    const one = arbiter('a', [`http://127.0.0.1:${await freePort()}`, url], 'endpoints');
    expect((await one.claim(START, none)).outcome).toBe('won');
    await one.release();
  });
});

describe('an etcd that is not one', () => {
  let server: Server | undefined;
  afterEach(() => server?.closeAllConnections() ?? server?.close());
  async function answering(answer: (path: string) => string | null, status = 200): Promise<string> {
    server = createServer((request, response) => {
      const body = answer(request.url ?? '');
      if (body !== null) response.writeHead(status).end(body);
    });
    await new Promise<void>((resolve) => server!.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }
  const ask = (url: string): Promise<ClaimAnswer> =>
    answerWithin(realClock, 300, (signal) => arbiter('a', [url]).claim(START, signal));

  it.each([
    ['nonsense', 'what?'],
    ['another shape', '[]'],
    ['kvs that are no list', '{"responses":[{"response_range":{"kvs":{}}}]}'],
    ['a generation that is none', `{"responses":[{"response_range":{"kvs":[{"value":"eA=="}]}}]}`],
    ['an answer without end', `"${'x'.repeat(100_000)}"`],
  ])('%s is unknown', async (_what, body) => {
    expect((await ask(await answering(() => body))).outcome).toBe('unknown');
  });

  it('an error is unknown, and so is silence, in time', async () => {
    expect((await ask(await answering(() => '{}', 503))).outcome).toBe('unknown');
    expect((await ask(await answering(() => null))).outcome).toBe('unknown');
  });

  it('a lease without a time, and a transaction that did not succeed, are a no', async () => {
    expect((await ask(await answering(() => '{}'))).outcome).toBe('lost');
    const lying = await answering((path) =>
      path.endsWith('grant') ? '{"ID":"7","TTL":"2"}' : '{"succeeded":"yes"}',
    );
    expect((await ask(lying)).outcome).toBe('lost');
  });
});
