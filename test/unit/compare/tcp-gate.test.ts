/** T2, on the gate alone: what was shown is never taken back, whatever the secondary seems to have said. */
import { describe, expect, it } from 'vitest';
import { Gate, TcpGate } from '../../../src/compare/tcp-gate.js';
import { FlowFlag, FlowState } from '../../../src/flow/flow-state.js';
import { FLOW_KEY_WORDS } from '../../../src/wire/flow-key.js';
import { Guest, viewOf } from './harness.js';

const KEY = new Int32Array(FLOW_KEY_WORDS);

describe('T2: an acknowledgement that is lowered', () => {
  it.each([
    ['to what the secondary has', 40, 30, 40],
    ['but never below what the client was shown', 40, 60, 60],
  ])('goes %s', (_name, secondary, shown, expected) => {
    const guest = new Guest(1000);
    const state = new FlowState(1);
    state.reset(0, KEY, 0, 0);
    state.set(0, FlowFlag.ACKED_SECONDARY | FlowFlag.ACK_SHOWN);
    state.setScalePrimary(0, 0);
    state.setScaleSecondary(0, 0);
    state.ackSecondary[0] = guest.clientIsn + secondary;
    state.edgeSecondary[0] = guest.clientIsn + 2000;
    state.windowSecondary[0] = 1000;
    state.ackShown[0] = guest.clientIsn + shown;
    const view = viewOf(guest.frame({ at: 1, data: 'x', ack: 100 }));
    const gate = new TcpGate(state);
    expect(gate.measure(view, 0, false)).toBe(Gate.LOWER);
    gate.lower(view);
    expect(view.bytes.readUInt32BE(view.l4 + 8) - guest.clientIsn).toBe(expected);
  });
});

describe('T3: the window of an acknowledgement that is lowered', () => {
  /** The secondary has acknowledged 40 bytes and takes `edge - 40` more. */
  const measured = (edge: number, shown: number, window: number): { gate: Gate; window: number } => {
    const guest = new Guest(1000);
    const state = new FlowState(1);
    state.reset(0, KEY, 0, 0);
    state.set(0, FlowFlag.ACKED_SECONDARY | FlowFlag.ACK_SHOWN);
    state.setScalePrimary(0, 0);
    state.setScaleSecondary(0, 0);
    state.ackSecondary[0] = guest.clientIsn + 40;
    state.edgeSecondary[0] = guest.clientIsn + edge;
    state.ackShown[0] = guest.clientIsn + shown;
    const view = viewOf(guest.frame({ at: 1, data: 'x', ack: 100, window }));
    const gate = new TcpGate(state);
    const result = gate.measure(view, 0, false);
    if (result === Gate.LOWER) gate.lower(view);
    return { gate: result, window: view.window };
  };

  it.each([
    ['what the secondary takes beyond what was shown', 75, 60, 1000, Gate.LOWER, 15],
    ['one byte', 61, 60, 1000, Gate.LOWER, 1],
    [
      'nothing: it waits rather than close a window that the primary left open',
      60,
      60,
      1000,
      Gate.WAIT,
      1000,
    ],
    ['nothing where the primary offers nothing either', 60, 60, 0, Gate.LOWER, 0],
    ['less than nothing: more was shown than the secondary takes', 59, 60, 1000, Gate.WAIT, 1000],
    ['less than nothing, closed', 59, 60, 0, Gate.WAIT, 0],
  ])('is %s', (_name, edge, shown, window, gate, expected) => {
    expect(measured(edge, shown, window)).toEqual({ gate, window: expected });
  });
});
