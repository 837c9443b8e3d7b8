/**
 * Kernel facts about a TAP's queue, seen from the host side (drivers/net/tun.c).
 *
 * Product rules that rest on them:
 * - frames not yet taken by QEMU = frames sent minus the rise of the interface's tx_packets (T8: the gate closes
 *   and waits until both VMs have taken what was fed);
 * - a link keeps its untaken frames below txqueuelen, because a full queue loses frames without a word;
 * - counters are asked by rtnetlink, not read from a /sys that may belong to another namespace;
 * - a persistent TAP is made single- or multi-queue once and for all.
 */
import { readFileSync } from 'node:fs';
import { expect, it, onTestFinished } from 'vitest';
import { createPersistentTap, type FramePort, openPacketSocket, openTap } from '../../native/index.js';
import { probe, receiveAll, sendFrame } from '../netns/frames.js';
import { describeInNamespaces, useNamespace } from '../netns/harness.js';

describeInNamespaces('kernel: the queue of a TAP', () => {
  const host = useNamespace('queue');

  function quietTap(name: string): { vm: FramePort; wire: FramePort } {
    const vm = host.within(() => openTap({ name }));
    host.ip(`link set dev ${name} arp off addrgenmode none`);
    host.ip(`link set dev ${name} up`);
    const wire = host.within(() => openPacketSocket({ interface: name, receiveBufferBytes: 1 << 22 }));
    onTestFinished(() => {
      vm.close();
      wire.close();
    });
    return { vm, wire };
  }

  function readFrames(vm: FramePort, count: number): number {
    return vm.receive(Buffer.alloc(2000 * count), new Int32Array(count), new Int32Array(count), 2000, count);
  }

  it('tx_packets rises when the holder reads a frame, not when it is queued', () => {
    const { vm, wire } = quietTap('q0');
    expect(sendFrame(wire, probe(60), 10)).toBe(10);
    expect(host.interfaceStatus('q0').txPackets).toBe(0);
    expect(readFrames(vm, 4)).toBe(4);
    expect(host.interfaceStatus('q0').txPackets).toBe(4);
    expect(receiveAll(vm)).toHaveLength(6);
    expect(host.interfaceStatus('q0').txPackets).toBe(10);
  });

  it('a full queue drops silently: every send succeeds, txqueuelen frames are there', () => {
    const { vm, wire } = quietTap('q1');
    expect(sendFrame(wire, probe(60), 1500)).toBe(1500);
    expect(wire.statistics().sendErrors).toBe(0);
    expect(host.interfaceStatus('q1').txDropped).toBe(500);
    expect(receiveAll(vm)).toHaveLength(1000);
  });

  it('a TAP without a holder takes sends silently too', () => {
    host.within(() => createPersistentTap({ name: 'q2' }));
    host.ip('link set dev q2 arp off addrgenmode none');
    host.ip('link set dev q2 up');
    const wire = host.within(() => openPacketSocket({ interface: 'q2', receiveBufferBytes: 1 << 20 }));
    onTestFinished(() => wire.close());
    let outcome = 'taken';
    try {
      if (sendFrame(wire, probe(60), 5) !== 5) outcome = 'queue full';
    } catch (error) {
      outcome = (error as { code: string }).code;
    }
    expect(outcome).toBe('taken');
    const vm = host.within(() => openTap({ name: 'q2', mustExist: true }));
    onTestFinished(() => vm.close());
    expect(receiveAll(vm)).toHaveLength(0);
  });

  it('with the queue bypassed (PACKET_QDISC_BYPASS) the sender is told: ENOBUFS', () => {
    const vm = host.within(() => openTap({ name: 'q3' }));
    host.ip('link set dev q3 arp off addrgenmode none');
    host.ip('link set dev q3 up');
    const wire = host.within(() =>
      openPacketSocket({ interface: 'q3', receiveBufferBytes: 1 << 20, bypassQueue: true }),
    );
    onTestFinished(() => {
      vm.close();
      wire.close();
    });
    expect(sendFrame(wire, probe(60), 1500)).toBe(1000);
    expect(receiveAll(vm)).toHaveLength(1000);
  });

  it('/sys shows the namespace it was mounted in, not the one the thread is in', () => {
    quietTap('q4');
    expect(() => host.within(() => readFileSync('/sys/class/net/q4/statistics/tx_packets'))).toThrow(
      /ENOENT/,
    );
    expect(host.run('cat', '/sys/class/net/q4/statistics/tx_packets').trim()).toBe('0');
  });

  it('a persistent single-queue TAP refuses a multi-queue open, and the other way round (EINVAL)', () => {
    host.within(() => {
      createPersistentTap({ name: 'q5' });
      createPersistentTap({ name: 'q6', multiQueue: true });
      expect(() => openTap({ name: 'q5', multiQueue: true })).toThrow(/EINVAL.*TUNSETIFF/);
      expect(() => openTap({ name: 'q6' })).toThrow(/EINVAL.*TUNSETIFF/);
    });
  });
});
