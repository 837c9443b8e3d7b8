/**
 * The promise, looked at from outside after every step of a world. Each check reads what the clients got and what
 * the VMs are, never what the proxy believes.
 */
import { Comparator } from '../../compare/comparator.js';
import { FrameKind, FrameView } from '../../wire/frame-view.js';
import { parseFrame } from '../../wire/parse.js';
import { LineTask } from '../client/line-tasks.js';
import { GuestPort } from '../guest.js';
import type { LineApp } from '../services/line-service.js';
import { connectionKey } from '../stack-state.js';
import type { TcpConnection } from '../tcp-state.js';
import type { ScriptedVm } from '../vm/scripted-vm.js';
import { EPOCHS, originOf, type World } from '../world.js';

export const INVARIANTS = [
  'output-commit',
  'transcript',
  'one-side-releases',
  'memory',
  'progress',
  'epoch',
  'metrics',
  'crash',
] as const;
export type Invariant = (typeof INVARIANTS)[number];

export interface Violation {
  readonly invariant: Invariant;
  readonly atMs: number;
  readonly what: string;
}

/** Memory is summed up by the product, which costs more than the other checks. */
const MEMORY_EVERY_STEPS = 16;
const ETHERTYPE_ARP = 0x0806;
const ETHERTYPE_RARP = 0x8035;
const NA_SOLICITED = 0x40;
const ICMPV6_NA = 136;

type Compare = Comparator['primary'];

export class Watch {
  violation: Violation | null = null;
  steps = 0;
  /** Frames that came out of the proxy towards the client, without its own announcements. */
  released = 0;
  readonly #world: World;
  readonly #memoryMax: { readonly held: number; readonly gate: number };
  readonly #view = new FrameView();
  readonly #retired = new Set<number>();
  #releasing = -1;
  /** The epochs of both VMs that are compared since the last commit. */
  #due: Record<'carrier' | 'other', ReturnType<typeof originOf>> | null = null;
  readonly #unpatch: () => void;

  constructor(world: World, memoryMax: { held: number; gate: number }) {
    this.#world = world;
    this.#memoryMax = memoryMax;
    world.onReleased = (bytes, offset, length) => this.#seeReleased(bytes, offset, length);
    this.#unpatch = this.#watchEpochs();
  }

  close(): void {
    this.#unpatch();
  }

  /** Keeps the first violation only: the rest follows from it. */
  fail(invariant: Invariant, what: string): void {
    this.violation ??= { invariant, atMs: this.#world.clock.now(), what };
  }

  /** After each step. True: a violation was found. */
  check(): boolean {
    this.steps++;
    const { carrier, other, isProtected } = seats(this.#world);
    if (carrier.alive) this.#covers(carrier, 'the VM that carries the traffic');
    if (isProtected && other.alive) this.#covers(other, 'the secondary');
    if (this.steps % MEMORY_EVERY_STEPS === 0) this.#memory();
    return this.violation !== null;
  }

  /** (1) Could this VM go on from what every client has seen? */
  #covers(vm: ScriptedVm, who: string): void {
    const guest = vm.guest.stack.state;
    for (const client of this.#world.client.stack.state.connections.values()) {
      if (client.phase === 'syn-sent' || client.phase === 'time-wait' || client.phase === 'closed') continue;
      const key = connectionKey(client.local, client.localPort, client.remotePort);
      const id = guest.byAddress.get(key);
      const server = id === undefined ? undefined : guest.connections.get(id);
      if (server === undefined) {
        // The guest forgets a connection when its own FIN is acknowledged.
        if (!client.peerClosed && client.finSeq < 0) {
          this.fail('output-commit', `${who} does not know the connection from port ${client.localPort}`);
        }
      } else this.#coversConnection(client, server, who);
    }
  }

  #coversConnection(client: TcpConnection, server: TcpConnection, who: string): void {
    const name = `${who}, connection from port ${client.localPort}:`;
    const early = client.early.at(-1);
    const seenTo = early === undefined ? client.rcvNxt : early.seq + early.bytes.length;
    const seen = (seenTo - client.irs) | 0;
    const sent = (server.sndMax - server.iss) | 0;
    if (seen > sent)
      this.fail('output-commit', `${name} the client has seen ${seen} positions, it sent ${sent}`);
    const acked = (client.sndUna - server.rcvNxt) | 0;
    if (client.sndUna !== client.iss && acked > 0) {
      this.fail('output-commit', `${name} ${acked} positions were acknowledged that it has not received`);
    }
    for (const { from, to } of client.sacked) {
      if (((to - client.sndUna) | 0) > 0 && !holds(server, from, to)) {
        this.fail('output-commit', `${name} SACK showed ${from} to ${to}, which it does not hold`);
      }
    }
    if (client.remotePort === GuestPort.LINE && client.app instanceof LineTask) {
      if (client.app.connection === client) this.#saidTheSame(client.app, server.app as LineApp | null, name);
    }
  }

  /** Answers may differ between the VMs; what a client was told must be what the survivor believes it said. */
  #saidTheSame(task: LineTask, app: LineApp | null, name: string): void {
    if (app === null || task.heardLast === '') return;
    const heardBytes = task.progress.bytes;
    const ahead = app.saidBytes - heardBytes;
    if (ahead < 0) return; // seen as positions already
    const said = ahead === 0 ? app.saidLast : app.saidLast.slice(0, -ahead);
    const common = Math.min(said.length, task.heardLast.length);
    if (common > 0 && said.slice(-common) !== task.heardLast.slice(-common)) {
      this.fail(
        'output-commit',
        `${name} it said ${JSON.stringify(said)}, the client heard ${JSON.stringify(task.heardLast)}`,
      );
    }
  }

  /** (3) Whose frame is it? A VM that was followed by another one never comes back. */
  #seeReleased(bytes: Buffer, offset: number, length: number): void {
    const view = this.#view;
    if (parseFrame(bytes, offset, length, 0, view) === FrameKind.MALFORMED) return;
    if (isAnnouncement(view)) return;
    this.released++;
    if (view.ipVersion !== 4) return;
    const { instance } = originOf(bytes.readUInt16BE(view.l3 + 4));
    if (instance === this.#releasing) return;
    if (this.#retired.has(instance)) {
      this.fail('one-side-releases', `VM ${instance} is heard again after VM ${this.#releasing}`);
    }
    this.#retired.add(this.#releasing);
    this.#releasing = instance;
  }

  /** (6) What is compared must come from the epoch its VM is in. */
  #watchEpochs(): () => void {
    const { primary, secondary, commit } = Comparator.prototype;
    const look = (view: FrameView, whose: 'carrier' | 'other'): void => {
      const due = this.#due?.[whose];
      if (view.ipVersion !== 4 || due === undefined) return;
      const is = originOf(view.bytes.readUInt16BE(view.l3 + 4));
      if (is.instance === due.instance && is.epoch === due.epoch) return;
      this.fail(
        'epoch',
        `a frame of VM ${is.instance} from its epoch ${is.epoch} was compared in epoch ${due.epoch} of VM ${due.instance}`,
      );
    };
    const watched = <F extends Compare | Comparator['secondary']>(whose: 'carrier' | 'other', inner: F) =>
      function (this: Comparator, ...args: Parameters<F>): ReturnType<F> {
        look(args[0], whose);
        return (inner as (...all: unknown[]) => ReturnType<F>).apply(this, args);
      };
    const nextEpochs = (): void => {
      const { carrier, other } = seats(this.#world);
      const { instance, epoch } = this.#world.origin(carrier);
      // The secondary already runs, the primary is let go on by what follows the commit.
      this.#due = { carrier: { instance, epoch: (epoch + 1) % EPOCHS }, other: this.#world.origin(other) };
    };
    Comparator.prototype.commit = function (this: Comparator, nowMs: number): void {
      commit.call(this, nowMs);
      nextEpochs();
    };
    Comparator.prototype.primary = watched('carrier', primary);
    Comparator.prototype.secondary = watched('other', secondary);
    return () => {
      Comparator.prototype.commit = commit;
      Comparator.prototype.primary = primary;
      Comparator.prototype.secondary = secondary;
    };
  }

  /** (4) */
  #memory(): void {
    const { heldBytes, gateBytes } = this.#world.pair.status();
    const { held, gate } = this.#memoryMax;
    if (heldBytes > held) this.fail('memory', `${heldBytes} bytes are held, the limit is ${held}`);
    if (gateBytes > gate) this.fail('memory', `${gateBytes} bytes wait at the gate, the limit is ${gate}`);
  }

  /** (7) Null when the product's counters agree with what was seen; no frame may be on its way. */
  metricsProblem(): string | null {
    const { framesReleased, links } = this.#world.pair.status();
    const refused = links.find((link) => link.side === 'client')?.counters.sendDrops ?? 0;
    const counted = Object.values(framesReleased).reduce((sum, frames) => sum + frames, 0) - refused;
    return counted === this.released
      ? null
      : `${counted} frames are counted as released, ${this.released} were seen`;
  }
}

/** Who is who at this moment, as the proxy's status says. */
export function seats(world: World): { carrier: ScriptedVm; other: ScriptedVm; isProtected: boolean } {
  const { primary, secondary, pair } = world;
  const isSwapped = carrierOf(world) === 'secondary';
  return {
    carrier: isSwapped ? secondary : primary,
    other: isSwapped ? primary : secondary,
    isProtected: pair.state === 'protected' || pair.state === 'checkpointing',
  };
}

function carrierOf({ pair }: World): string {
  return pair.nics.carrier;
}

/** Does the host hold all of this range of what was sent to it? */
function holds(server: TcpConnection, from: number, to: number): boolean {
  if (((to - server.rcvNxt) | 0) <= 0) return true;
  let at = ((from - server.rcvNxt) | 0) < 0 ? server.rcvNxt : from;
  for (const { seq, bytes } of server.early) {
    if (((seq - at) | 0) <= 0 && ((seq + bytes.length - at) | 0) > 0) at = (seq + bytes.length) >>> 0;
  }
  return ((at - to) | 0) >= 0;
}

/** The proxy's own frames: nobody asked for them, and no VM of this world sends such ones. */
function isAnnouncement(view: FrameView): boolean {
  const { bytes, start } = view;
  const type = bytes.readUInt16BE(start + 12);
  if (type === ETHERTYPE_RARP) return true;
  if (type === ETHERTYPE_ARP)
    return bytes.compare(bytes, start + 38, start + 42, start + 28, start + 32) === 0;
  return (
    view.kind === FrameKind.ND && view.icmpType === ICMPV6_NA && (bytes[view.l4 + 4]! & NA_SOLICITED) === 0
  );
}
