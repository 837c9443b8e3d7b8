/**
 * Deliberate faults in the product's rules, each one replacement in one file of the build. `in` is relative to the
 * build; `find` must be there (and in the source, where a unit test looks for it), and the `nth` occurrence (from 1; 1
 * when absent) is replaced.
 */
const PLANE = 'dataplane/data-plane.js';
const LEG = 'dataplane/secondary-leg.js';
const GATE = 'compare/tcp-gate.js';
const PROTECTION = 'pair/protection.js';
const COMPARATOR = 'compare/comparator.js';
const TRANSLATE = 'translate/translate.js';

export const MUTANTS = [
  {
    name: 'release without a match',
    in: PLANE,
    find: 'this.comparator.primary(view, flow, nowMs);',
    put: "this.#release(bytes, offset, length, vnetHeaderBytes, flow, 'unprotected', 0);",
  },
  { name: 'forget the ack gate', in: GATE, find: 'if (lead > 0) {', put: 'if (false) {' },
  {
    name: 'forget the SACK gate',
    in: GATE,
    find: 'const shrinksSack = view.sackBlocks > 0 && !this.#sackCovered(view);',
    put: 'const shrinksSack = false;',
  },
  {
    name: 'payload is not compared',
    in: 'compare/tcp-match.js',
    find: 'const same = differenceOf(view.bytes, at, buffer, keptAt, common);',
    put: 'const same = -1;',
  },
  {
    name: 'commit at RECEIVED',
    in: 'checkpoint/coordinator.js',
    find: 'case SyncPoint.RECEIVED:',
    put: 'case SyncPoint.RECEIVED: void this.#gate.commit("compare");',
  },
  {
    name: 'do not drain at SEND',
    in: PLANE,
    find: 'this.links[this.carrier].drain();',
    put: '',
  },
  { name: 'do not drain at REPLY', in: PLANE, find: 'this.secondaryLeg.link.drain();', put: '' },
  { name: 'do not park from REPLY on', in: PLANE, find: 'this.secondaryLeg.parking = true;', put: '' },
  {
    name: 'forget to reset the pair translation',
    in: COMPARATOR,
    find: 'this.#tcp.state.commit(slot);',
    put: '',
  },
  {
    name: 'keep the secondary’s frames of an ended epoch',
    in: COMPARATOR,
    find: 'this.#tcp.state.dropSecondaryFrames(slot);',
    put: '',
  },
  {
    name: 'release nothing at LOADED',
    in: COMPARATOR,
    find: "this.#releaseHeld('committed', nowMs);",
    put: '',
  },
  {
    name: 'the gate does not hold',
    in: PLANE,
    find: 'if (this.gateClosed) {',
    put: 'if (false) {',
  },
  { name: 'the gate never opens', in: PLANE, find: 'this.gateClosed = false;', put: '' },
  {
    name: 'lose one held client frame',
    in: 'dataplane/frame-queue.js',
    find: 'const count = this.frames;',
    put: 'const count = Math.max(0, this.frames - 1);',
  },
  {
    name: 'reverse the held order',
    in: 'dataplane/frame-queue.js',
    find: 'const entry = 3 * index;',
    put: 'const entry = 3 * (count - 1 - index);',
  },
  {
    name: 'mirror nothing to the secondary',
    in: PLANE,
    find: 'if (!this.secondaryLeg.feed(view, flow))',
    put: 'if (false)',
  },
  {
    name: 'promote without taking over its space',
    in: PLANE,
    find: 'this.comparator.adoptSecondary();',
    put: '',
  },
  {
    name: 'release the dead primary’s output before promoting',
    in: PLANE,
    find: "this.counters.drops['primary-uncovered'] += this.comparator.dropPrimary();",
    put: 'this.comparator.releaseAllPrimary(0);',
  },
  {
    name: 'do not wait for LOADED when the primary dies',
    in: PROTECTION,
    find: "rule === 'old-state' ? undefined : this.#with.relay.whenClosed(),",
    put: '',
  },
  {
    name: 'promote in the phase loading at once',
    in: 'failover/rules.js',
    find: "loading: 'wait-loaded'",
    put: "loading: 'old-state'",
    faults: ['crash-primary'],
  },
  {
    name: 'never promote',
    in: 'failover/rules.js',
    find: "idle: 'old-state'",
    put: "idle: 'no-replica'",
  },
  {
    name: 'promote a living primary’s secondary',
    in: PROTECTION,
    find: "if (primary === 'refused')",
    put: "if (primary !== 'x')",
    faults: ['cut-channel', 'checkpoint'],
  },
  {
    name: 'accept a void VM’s frames',
    in: PLANE,
    find: 'this.counters.drops.void += batch.count;',
    put: 'this.#fromCarrier(batch);',
    faults: ['freeze-primary', 'crash-primary'],
  },
  {
    name: 'do not translate the survivor’s output',
    in: TRANSLATE,
    find: 'moveTowardsClient(view, state, flow, state.clientSeqDelta',
    put: 'void (view, state, flow, state.clientSeqDelta',
  },
  {
    name: 'do not translate towards the secondary',
    in: LEG,
    find: 'toSecondary(this.#view, this.#flows, flow);',
    put: '',
  },
  {
    name: 'do not translate SACK blocks',
    in: TRANSLATE,
    find: 'if (view.sackBlocks === 0 || seqDelta === 0)',
    put: 'if (true)',
  },
  {
    name: 'timestamps of the survivor go back',
    in: TRANSLATE,
    find: 'if (behind > 0) {',
    put: 'if (false) {',
  },
  {
    name: 'wrap-around is forgotten in the acknowledgement gate',
    in: GATE,
    find: 'if (lead > 0) {',
    put: 'if (view.ack >>> 0 > state.ackSecondary[flow] >>> 0) {',
  },
  {
    name: 'wrap-around is forgotten while bytes are compared',
    in: 'compare/tcp-match.js',
    find: 'while (((dataEnd - cursor) | 0) > 0) {',
    put: 'while (dataEnd >>> 0 > cursor >>> 0) {',
  },
  {
    name: 'held memory has no limit',
    in: 'compare/ledger.js',
    find: 'this.store = new HoldStore(limits);',
    put: 'this.store = new HoldStore({ ...limits, heldBytesMax: 2 ** 28 });',
    faults: ['stall-secondary', 'burst-secondary', 'loss-secondary'],
  },
  {
    name: 'the gate’s buffer has no limit',
    in: 'dataplane/frame-queue.js',
    find: 'this.bytes + length > this.#limits.bytesMax',
    put: 'false',
    faults: ['stall-secondary', 'checkpoint'],
  },
  {
    name: 'a released frame is not counted',
    in: PLANE,
    find: 'this.counters.framesReleased[reason]++;',
    put: "if (reason !== 'committed') this.counters.framesReleased[reason]++;",
  },
  {
    name: 'hold times are not counted',
    in: PLANE,
    find: 'this.counters.releaseLatency.observe(heldMs);',
    put: 'this.counters.releaseLatency.observe(0);',
  },
  {
    name: 'a waived frame is not counted',
    in: COMPARATOR,
    find: 'this.waivedFrames[waiver] =',
    put: 'this.waivedFrames[-1] =',
  },
  {
    name: 'a divergence is counted twice',
    in: PLANE,
    find: 'this.counters.divergences[divergence.reason]++;',
    put: 'this.counters.divergences[divergence.reason] += 2;',
  },
  {
    name: 'a client frame that finds the gate full is not counted',
    in: PLANE,
    find: "this.counters.drops['gate-full']++;",
    put: '{}',
    faults: ['stall-secondary', 'checkpoint'],
  },
  {
    name: 'a void VM’s frames are not counted',
    in: PLANE,
    find: 'this.counters.drops.void += batch.count;',
    put: '',
    faults: ['freeze-primary', 'cut-channel'],
  },
  {
    name: 'what died with the primary is not counted',
    in: PLANE,
    find: "this.counters.drops['primary-uncovered'] += this.comparator.dropPrimary();",
    put: 'this.comparator.dropPrimary();',
    faults: ['crash-primary'],
  },
  {
    name: 'one-sided output is never reported',
    in: PLANE,
    find: 'this.comparator.tick(',
    put: 'void (',
  },
  {
    name: 'parked frames are lost at LOADED',
    in: LEG,
    find: 'this.parked.drainTo(visit);',
    put: 'this.parked.clear();',
    faults: ['checkpoint'],
  },
  {
    name: 'promotable before the first LOADED',
    in: PROTECTION,
    find: 'primaryLostRule(phase, this.#promotable)',
    put: 'primaryLostRule("idle", true)',
    faults: ['crash-unprotected', 'checkpoint'],
  },
  {
    name: 'the end of the mandate is not looked at',
    in: PLANE,
    find: 'const isSilent = nowMs >= this.#mandate.heldUntilMs;',
    put: 'const isSilent = false;',
    faults: ['crash-arbiter', 'freeze-proxy', 'crash-proxy'],
  },
  {
    name: 'a restarted proxy forgets the translations',
    in: 'pair/keeper.js',
    find: 'const restored = restoreClientTranslations(plane.flows, mine, nowMs);',
    put: 'const restored = mine.length;',
    faults: ['crash-primary', 'crash-proxy'],
  },
  {
    name: 'a restarted proxy forgets who carries the traffic',
    in: 'pair/keeper.js',
    find: 'plane.startOn(carrier);',
    put: '',
    faults: ['crash-primary', 'crash-proxy'],
  },
  {
    name: 'only the first interface commits',
    in: 'pair/nics.js',
    find: 'return this.#all((plane) => plane.commit(mode));',
    put: 'return this.planes[0].commit(mode);',
  },
  {
    name: 'the answer to a repeated SYN reaches the secondary from its future',
    in: TRANSLATE,
    find: 'if (answersSyn(segment))',
    put: 'if (false)',
    faults: ['loss', 'partition', 'checkpoint'],
  },
];
