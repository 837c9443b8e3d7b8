import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FlowFlag, SLOT_WORDS } from '../../../src/flow/flow-state.js';
import { FlowTable } from '../../../src/flow/flow-table.js';
import { buildEthernet, buildIcmp, buildTcp, buildUdp } from '../../../src/wire/build.js';
import { FrameView, TcpFlag } from '../../../src/wire/frame-view.js';
import { parseFrame } from '../../../src/wire/parse.js';

function viewOf(frame: Buffer): FrameView {
  const view = new FrameView();
  parseFrame(frame, 0, frame.length, 0, view);
  return view;
}

const made = new Map<string, FrameView>();
const tcp = (port: number, vid = 0): FrameView => {
  const known = made.get(`${port}/${vid}`);
  if (known !== undefined) return known;
  const view = viewOf(
    buildTcp({
      source: '10.0.0.2',
      destination: '10.0.0.1',
      sourcePort: 80,
      destinationPort: port,
      seq: 1,
      ack: 1,
      flags: TcpFlag.ACK,
      ...(vid === 0 ? {} : { vlans: [{ vid }] }),
    }),
  );
  made.set(`${port}/${vid}`, view);
  return view;
};
const udp = (port: number): FrameView =>
  viewOf(buildUdp({ source: 'fd00::2', destination: 'fd00::1', sourcePort: 53, destinationPort: port }));

describe('FlowTable', () => {
  it('behaves as a map whose slots are stable', () => {
    const step = fc.tuple(fc.constantFrom('add', 'remove', 'find'), fc.nat(40), fc.constantFrom(0, 5));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const table = new FlowTable({ flowsMax: 16, seed: 99 });
        const model = new Map<string, number>();
        for (const [what, port, vid] of steps) {
          const key = `${port}/${vid}`;
          const view = tcp(port, vid);
          if (what === 'add') {
            const slot = table.findOrAdd(view, false, 0);
            const known = model.get(key);
            if (known !== undefined) expect(slot).toBe(known);
            else if (model.size === 16) expect(slot).toBe(-1);
            else {
              expect([...model.values()]).not.toContain(slot);
              model.set(key, slot);
            }
          } else if (what === 'remove' && model.has(key)) {
            table.remove(model.get(key)!);
            model.delete(key);
          } else {
            expect(table.find(view, false)).toBe(model.get(key) ?? -1);
          }
          expect(table.count).toBe(model.size);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('makes a flow anew that was removed a short while ago, also when its slot is taken', () => {
    const table = new FlowTable({ flowsMax: 4, seed: 99 });
    const slot = table.findOrAdd(tcp(1), false, 0);
    table.remove(slot);
    expect(table.findOrAdd(tcp(1), false, 0)).toBe(slot);
    expect([table.count, table.isLive(slot)]).toEqual([1, true]);
    table.remove(slot);
    expect(table.findOrAdd(tcp(2), false, 0)).toBe(slot);
    expect(table.findOrAdd(tcp(1), false, 0)).not.toBe(slot);
    expect(table.count).toBe(2);
    // the same ports and addresses from the other side, and on a VLAN, are other flows
    const others = [table.findOrAdd(tcp(1), true, 0), table.findOrAdd(tcp(1, 5), false, 0)];
    expect(new Set([slot, table.findOrAdd(tcp(1), false, 0), ...others]).size).toBe(4);
  });

  it('finds all others after any one is removed, whatever collides', () => {
    for (let seed = 1; seed <= 60; seed += 1) {
      const table = new FlowTable({ flowsMax: 64, seed });
      const slots = Array.from({ length: 64 }, (_, port) => table.findOrAdd(tcp(port), false, 0));
      for (let gone = 0; gone < 64; gone += 3) {
        table.remove(slots[gone]!);
        slots[gone] = -1;
        for (let port = 0; port < 64; port += 1) expect(table.find(tcp(port), false)).toBe(slots[port]);
      }
    }
  });

  it('knows the client frame of a flow, and no flow of link control', () => {
    const table = new FlowTable({ flowsMax: 4, seed: 1 });
    const slot = table.findOrAdd(tcp(5), false, 0);
    const back = viewOf(
      buildTcp({
        source: '10.0.0.1',
        destination: '10.0.0.2',
        sourcePort: 5,
        destinationPort: 80,
        seq: 1,
        flags: 2,
      }),
    );
    expect(table.find(back, true)).toBe(slot);
    expect(table.find(back, false)).toBe(-1);
    const lldp = buildEthernet({}, 0x88cc, Buffer.alloc(46));
    expect(table.findOrAdd(viewOf(lldp), false, 0)).toBe(-1);
    const unknown = buildEthernet({}, 0x88f7, Buffer.alloc(46));
    expect(table.findOrAdd(viewOf(unknown), false, 0)).toBe(table.find(viewOf(unknown), true));
    expect(table.find(viewOf(Buffer.alloc(3)), true)).toBe(-1);
  });

  it('finds for an ICMP error of the client the connection that it quotes', () => {
    const table = new FlowTable({ flowsMax: 4, seed: 1 });
    const segment = tcp(5);
    const slot = table.findOrAdd(segment, false, 0);
    const quote = segment.bytes.subarray(14, 14 + 28);
    const error = viewOf(
      buildIcmp({ source: '10.9.9.9', destination: '10.0.0.2', type: 3, code: 4, payload: quote }),
    );
    expect(table.find(error, true)).toBe(slot);
  });

  it('expires by the state of the connection, never what has frames held', () => {
    const table = new FlowTable({ flowsMax: 8, seed: 1, flowIdleMsMax: 1_000_000 });
    const { state } = table;
    const halfOpen = table.findOrAdd(tcp(1), false, 0);
    const open = table.findOrAdd(tcp(2), false, 0);
    const closed = table.findOrAdd(tcp(3), false, 0);
    const held = table.findOrAdd(tcp(4), false, 0);
    const translated = table.findOrAdd(tcp(5), false, 0);
    const datagrams = table.findOrAdd(udp(6), false, 0);
    state.set(open, FlowFlag.SEEN_PRIMARY | FlowFlag.CLIENT_ACKED);
    state.set(closed, FlowFlag.FIN_PRIMARY | FlowFlag.CLIENT_FIN | FlowFlag.CLIENT_TRANSLATED);
    state.primaryFirst[held] = 3;
    state.set(translated, FlowFlag.CLIENT_TRANSLATED);
    const removed: number[] = [];
    table.onRemove = (slot) => removed.push(slot);
    table.expire(100_000, 100);
    expect(removed).toEqual([halfOpen]);
    table.expire(130_000, 100);
    expect(removed).toEqual([halfOpen, closed]);
    table.expire(200_000, 100);
    expect(removed).toEqual([halfOpen, closed, datagrams]);
    table.expire(2_000_000, 100);
    expect(removed).toEqual([halfOpen, closed, datagrams, open]);
    expect(table.count).toBe(2);
    expect(table.expired).toBe(4);
  });

  it('looks at no more slots at once than it is told to', () => {
    const table = new FlowTable({ flowsMax: 100, seed: 1 });
    for (let port = 0; port < 100; port += 1) table.findOrAdd(tcp(port), false, 0);
    expect(table.expire(1e9, 10)).toBe(10);
    expect(table.expire(1e9, 1000)).toBe(90);
  });

  it('when full puts out the flow that has used up most of its time, and refuses when all are needed', () => {
    const table = new FlowTable({ flowsMax: 4, seed: 1 });
    for (let port = 0; port < 4; port += 1) table.findOrAdd(tcp(port), false, port === 2 ? 0 : 50_000);
    expect(table.findOrAdd(tcp(9), false, 50_100)).not.toBe(-1);
    expect(table.find(tcp(2), false)).toBe(-1);
    expect(table.evicted).toBe(1);
    expect(table.findOrAdd(tcp(10), false, 50_200)).toBe(-1);
    expect(table.refused).toBe(1);
    for (let slot = 0; slot < 4 * SLOT_WORDS; slot += SLOT_WORDS) table.state.primaryFirst[slot] = 1;
    expect(table.findOrAdd(tcp(10), false, 1e9)).toBe(-1);
  });

  it('under churn puts out closed connections however young, and none that is open or held', () => {
    const table = new FlowTable({ flowsMax: 2048, seed: 1 });
    const { state } = table;
    const stays = (opened: number): boolean => opened < 150 || (opened < 1600 && opened % 16 === 0);
    for (let opened = 0; opened < 20_000; opened += 1) {
      const slot = table.findOrAdd(tcp(opened), false, opened / 20);
      expect(slot).not.toBe(-1);
      state.set(slot, FlowFlag.SEEN_PRIMARY | FlowFlag.CLIENT_ACKED);
      if (!stays(opened) || opened % 32 === 0) state.set(slot, FlowFlag.FIN_PRIMARY | FlowFlag.CLIENT_FIN);
      if (stays(opened) && opened % 32 === 0) state.primaryFirst[slot] = 1;
    }
    expect(table.evicted).toBe(20_000 - 2048);
    for (let port = 0; port < 1600; port += 1) {
      expect(table.find(tcp(port), false) !== -1).toBe(stays(port));
    }
  });

  it('under churn goes round in the order of age, so that half-open connections had their time', () => {
    const table = new FlowTable({ flowsMax: 4096, seed: 1 });
    for (let opened = 0; opened < 16_384; opened += 1) {
      const nowMs = opened;
      expect(table.findOrAdd(tcp(opened), false, nowMs)).not.toBe(-1);
      if (opened % 100 === 99) table.expire(nowMs, 64);
      expect(table.find(tcp(Math.max(0, opened - 2000)), false)).not.toBe(-1);
    }
    expect(table.evicted).toBe(16_384 - 4096);
  });

  /** Full of established connections, each with a frame at 1,000,000 ms. */
  function fullOfOpen(flowsMax: number): FlowTable {
    const table = new FlowTable({ flowsMax, seed: 1 });
    for (let port = 0; port < flowsMax; port += 1) {
      const slot = table.findOrAdd(tcp(port), false, 1_000_000);
      table.state.set(slot, FlowFlag.SEEN_PRIMARY | FlowFlag.CLIENT_ACKED);
    }
    return table;
  }
  const close = (table: FlowTable, port: number): void =>
    table.state.set(table.find(tcp(port), false), FlowFlag.FIN_PRIMARY | FlowFlag.CLIENT_FIN);
  const isKnown = (table: FlowTable, port: number): boolean => table.find(tcp(port), false) !== -1;

  it('when full puts out what has ended or never began before any open connection, however long idle', () => {
    const table = fullOfOpen(600);
    for (const port of [3, 400]) table.touch(table.find(tcp(port), false), 0);
    close(table, 500);
    table.state.clear(table.find(tcp(450), false), FlowFlag.CLIENT_ACKED);
    const known: number[][] = [];
    for (const fresh of [7001, 7002, 7003, 7004, 7005]) {
      const slot = table.findOrAdd(tcp(fresh), false, 1_003_000);
      if (slot !== -1) table.state.set(slot, FlowFlag.SEEN_PRIMARY | FlowFlag.CLIENT_ACKED);
      known.push([3, 400, 450, 500].filter((port) => isKnown(table, port)));
    }
    // half-open for three seconds and closed for as long; then those idle for a quarter of an hour; then nobody
    expect(known).toEqual([[3, 400, 500], [3, 400], [400], [], []]);
    expect([table.evicted, table.refused]).toEqual([4, 1]);
  });

  it('when full finds the one flow that may go among any number of open ones, but does not look for ever', () => {
    const table = fullOfOpen(4096);
    const openAnother = (port: number, nowMs: number): boolean => {
      const slot = table.findOrAdd(tcp(port), false, nowMs);
      if (slot !== -1) table.state.set(slot, FlowFlag.SEEN_PRIMARY | FlowFlag.CLIENT_ACKED);
      return slot !== -1;
    };
    close(table, 4000);
    expect(openAnother(7001, 1_000_001)).toBe(true);
    close(table, 3000);
    expect(openAnother(7002, 1_000_001)).toBe(false); // the looking of this millisecond is spent
    expect(openAnother(7002, 1_000_011)).toBe(true);
    expect([isKnown(table, 4000), isKnown(table, 3000), table.refused]).toEqual([false, false, 1]);
  });

  it('when full puts out datagram flows however young, but none that tells a rule who opened it', () => {
    const table = new FlowTable({ flowsMax: 4, seed: 1 });
    for (let port = 0; port < 4; port += 1) table.findOrAdd(udp(port), false, port);
    for (const port of [0, 2]) table.state.set(table.find(udp(port), false), FlowFlag.CLIENT_OPENED);
    expect(table.findOrAdd(udp(10), false, 10)).not.toBe(-1);
    expect(table.findOrAdd(udp(11), false, 10)).not.toBe(-1);
    expect([0, 1, 2, 3].map((port) => table.find(udp(port), false) !== -1)).toEqual([
      true,
      false,
      true,
      false,
    ]);
    // what came in this very millisecond stays
    expect(table.findOrAdd(udp(12), false, 10)).toBe(-1);
  });
});
