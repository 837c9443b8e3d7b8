/** Which rule decides over a flow: looked up with its first frame, remembered in its slot. */
import { FlowFlag, type FlowState } from '../flow/flow-state.js';
import type { FlowTable } from '../flow/flow-table.js';
import { FrameKind, type FrameView, TcpFlag } from '../wire/frame-view.js';
import { NO_RULE, Opener, type RuleAction, type RuleSet } from './rules.js';

/** FlowState.rule holds the index of the rule plus this; 1 says that there is none. */
const INDEX_BASE = 2;
const NO_FLOW = -1;

export class Ruling {
  readonly #flows: FlowTable;
  readonly #state: FlowState;
  readonly #rules: RuleSet;

  constructor(flows: FlowTable, rules: RuleSet) {
    this.#flows = flows;
    this.#state = flows.state;
    this.#rules = rules;
  }

  /** `view` is a guest's frame of the flow. */
  actionFor(view: FrameView, flow: number): RuleAction {
    if (this.#state.rule[flow] === 0) {
      this.noteOpener(view, flow);
      this.#state.rule[flow] = this.#rules.find(this.#flows.keyOf(flow), this.#openerOf(flow)) + INDEX_BASE;
    }
    const rule = this.ruleOf(flow);
    return rule === NO_RULE ? 'compare' : this.#rules.rules[rule]!.action;
  }

  /** Index of the rule that was found, or NO_RULE. */
  ruleOf(flow: number): number {
    return this.#state.rule[flow]! - INDEX_BASE;
  }

  /** Learns from a guest's frame who opened the flow. */
  noteOpener(view: FrameView, flow: number): void {
    if (!this.#rules.usesOpener || this.#openerOf(flow) !== Opener.UNKNOWN) return;
    if (view.kind !== FrameKind.TCP) {
      this.#state.set(flow, FlowFlag.GUEST_OPENED);
    } else if ((view.tcpFlags & TcpFlag.SYN) !== 0) {
      const answers = (view.tcpFlags & TcpFlag.ACK) !== 0;
      this.#state.set(flow, answers ? FlowFlag.CLIENT_OPENED : FlowFlag.GUEST_OPENED);
    }
  }

  /** A client frame of a flow that no guest has spoken in: its slot, if any rule asks who opened it, else -1. */
  openFromClient(view: FrameView, nowMs: number): number {
    // a TCP connection tells by its SYN or SYN-ACK
    if (!this.#rules.usesOpener || view.kind === FrameKind.TCP) return NO_FLOW;
    const flow = this.#flows.findOrAdd(view, true, nowMs);
    if (flow !== NO_FLOW) this.#state.set(flow, FlowFlag.CLIENT_OPENED);
    return flow;
  }

  #openerOf(flow: number): Opener {
    if (this.#state.has(flow, FlowFlag.CLIENT_OPENED)) return Opener.CLIENT;
    return this.#state.has(flow, FlowFlag.GUEST_OPENED) ? Opener.GUEST : Opener.UNKNOWN;
  }
}
