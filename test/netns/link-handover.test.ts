/** An open link goes from one link object to the next, as from process to process: no frame is lost, doubled or cut. */
import { expect, it } from 'vitest';
import { adoptPacketSocket, adoptTap, openTap } from '../../native/index.js';
import { createLink, type LinkRole } from '../../src/link/factory.js';
import type { Link } from '../../src/link/link.js';
import { Collector, sendFrame, until } from '../unit/link/collect.js';
import { describeInNamespaces } from './harness.js';
import { closeAfterEach, closeLater, openLink, useOwnNamespace } from './link-helpers.js';

const OPTIONS = { reconnectMsMin: 5, reconnectMsMax: 50 };

describeInNamespaces('a link that is handed over', () => {
  const host = useOwnNamespace('handover');
  closeAfterEach();

  /** What the end of the first process and the beginning of the next do. */
  async function handOver(
    link: Link,
    url: string,
    role: LinkRole = {},
  ): Promise<{ next: Link; at: Collector }> {
    const descriptor = link.descriptor!;
    expect(descriptor).toBeGreaterThanOrEqual(0);
    const next = createLink(url, OPTIONS, role);
    closeLater(() => next.close());
    next.standBy!(descriptor, structuredClone(link.setup));
    const at = new Collector();
    await next.open(at);
    expect(next.state).toBe('up'); // while the first still has it
    const unread = link.suspend!();
    expect(unread).not.toBeNull();
    next.resume!(structuredClone(unread!));
    await link.release!();
    await next.secure!();
    return { next, at };
  }

  const numbered = (from: number, to: number): string[] =>
    Array.from({ length: to - from }, (_, index) =>
      `frame ${from + index} `.padEnd(60 + ((from + index) % 90), 'x'),
    );

  it('a packet link and its isolation: what came in between is read by the next', async () => {
    const qemu = openTap({ name: 'vm0', vnetHeader: true });
    closeLater(() => qemu.close());
    const role: LinkRole = { vmInterface: { instance: 'lab', create: false, isolate: true } };
    const { link, at } = await openLink('packet:vm0', OPTIONS, role);
    await until(() => link.state === 'up', 'the first link');
    const speak = (texts: string[]): void => {
      for (const text of texts) {
        const bytes = Buffer.concat([Buffer.alloc(10), Buffer.from(text, 'latin1')]);
        qemu.send(bytes, Int32Array.of(10), Int32Array.of(text.length), 10, 0, 1);
      }
    };
    speak(numbered(0, 50));
    await until(() => at.frames.length === 50, 'the first frames');
    const rules = () => host.run('nft', 'list', 'ruleset');
    const before = rules();
    const next = await (async () => {
      const handed = handOver(link, 'packet:vm0', role);
      speak(numbered(50, 120)); // nobody reads now
      return handed;
    })();
    speak(numbered(120, 150));
    await until(() => next.at.frames.length === 100, 'the frames since');
    expect([...at.texts, ...next.at.texts]).toEqual(numbered(0, 150));
    expect(rules()).toBe(before); // isolated all along
    expect(sendFrame(next.next, 'back'.padEnd(60))).toBe(true);
    next.next.flush();
    expect(next.next.counters.framesSent).toBe(1);
    await next.next.close();
    expect(rules()).not.toContain('vm0'); // and the next undoes it
  });

  it('a tap that the proxy holds: it stays, and its frames', async () => {
    const { link } = await openLink('tap:client0', OPTIONS);
    await until(() => link.state === 'up', 'the first link');
    const index = () => JSON.parse(host.ip('-j link show dev client0'))[0].ifindex;
    const before = index();
    const { next } = await handOver(link, 'tap:client0');
    expect(index()).toBe(before);
    expect(sendFrame(next, 'hello'.padEnd(60))).toBe(true);
    next.flush();
    expect(next.counters.framesSent).toBe(1);
  });

  it('a descriptor of something else is refused', () => {
    const tap = openTap({ name: 'other0', vnetHeader: true });
    closeLater(() => tap.close());
    const code = (action: () => unknown): string => {
      try {
        action();
        return '';
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    expect(code(() => adoptTap({ fd: tap.fd, name: 'vm1', vnetHeader: true }))).toBe('ENODEV');
    expect(code(() => adoptPacketSocket({ fd: tap.fd, interface: 'other0', vnetHeader: true }))).toBe(
      'ENOTSOCK',
    );
    expect(code(() => adoptTap({ fd: 99_999, name: 'other0', vnetHeader: true }))).toBe('EBADF');
  });
});
