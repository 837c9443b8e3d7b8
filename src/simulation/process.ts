import type { FrameBatch, Link, LinkAbilities, LinkCounters, LinkHandler, LinkState } from '../link/link.js';
import type { MemoryLink } from '../link/memory-link.js';
import type { Address, ChannelHandler, ChannelServer, DuplexChannel, Transport } from '../system/channel.js';
import type { Clock, Timer } from '../system/clock.js';

/**
 * One process of a simulated world, as its kernel sees it: it runs, is frozen (SIGSTOP: whatever comes for it waits),
 * or is dead (kill -9: its sockets are closed, and nothing of it ever happens again, whatever it was waiting for).
 * What runs in it gets its clock, its transport and its links from here.
 */
export class SimulatedProcess {
  readonly clock: Clock;
  readonly transport: Transport;
  #state: 'running' | 'frozen' | 'dead' = 'running';
  readonly #inner: { readonly clock: Clock; readonly transport: Transport };
  #waiting: (() => void)[] = [];
  readonly #channels = new Set<ProcessChannel>();
  readonly #servers = new Set<ChannelServer>();
  readonly #links: ProcessLink[] = [];

  constructor(clock: Clock, transport: Transport) {
    this.#inner = { clock, transport };
    this.clock = this.#makeClock();
    this.transport = {
      connect: (address, signal) => this.#connect(address, signal),
      listen: (address, accept, options) => this.#listen(address, accept, options),
    };
  }

  get isDead(): boolean {
    return this.#state === 'dead';
  }

  get isRunning(): boolean {
    return this.#state === 'running';
  }

  /** Now, when it is thawed, or never. */
  enter(action: () => void): void {
    if (this.#state === 'running') action();
    else if (this.#state === 'frozen') this.#waiting.push(action);
  }

  /** One end of a wire as this process holds it; the wire itself outlives it. */
  link(end: MemoryLink): Link {
    const link = new ProcessLink(this, end);
    this.#links.push(link);
    return link;
  }

  freeze(): void {
    if (this.#state !== 'running') return;
    this.#state = 'frozen';
    for (const channel of this.#channels) channel.hold();
    for (const { end } of this.#links) end.setReading(false);
  }

  thaw(): void {
    if (this.#state !== 'frozen') return;
    this.#state = 'running';
    for (const action of this.#waiting.splice(0)) this.enter(action);
    for (const channel of this.#channels) channel.letGo();
    for (const { end } of this.#links) end.setReading(true);
  }

  kill(): void {
    if (this.#state === 'dead') return;
    this.#state = 'dead';
    this.#waiting = [];
    for (const channel of [...this.#channels]) channel.destroy();
    for (const server of this.#servers) void server.close();
    for (const { end } of this.#links) {
      end.discardQueued();
      end.setReading(true); // the next process that opens it reads
      void end.close();
    }
  }

  #makeClock(): Clock {
    const { clock } = this.#inner;
    const after = (delayMs: number, callback: () => void): Timer =>
      clock.after(delayMs, () => this.enter(callback));
    return {
      now: () => clock.now(),
      wallMs: () => clock.wallMs(),
      after,
      // Not the inner clock's: the ticks that a frozen process misses are one when it is thawed.
      every: (periodMs, callback) => {
        let isOver = false;
        const tick = (): void => {
          if (isOver) return;
          callback();
          if (!isOver) timer = clock.after(periodMs, fire);
        };
        const fire = (): void => this.enter(tick);
        let timer = clock.after(periodMs, fire);
        return {
          cancel: () => {
            isOver = true;
            timer.cancel();
          },
        };
      },
    };
  }

  async #connect(address: Address, signal?: AbortSignal): Promise<DuplexChannel> {
    const channel = this.#wrap(await this.#inner.transport.connect(address, signal));
    return new Promise((resolve) => this.enter(() => resolve(channel)));
  }

  async #listen(...[address, accept, options]: Parameters<Transport['listen']>): Promise<ChannelServer> {
    const take = (channel: DuplexChannel): void => {
      const own = this.#wrap(channel);
      this.enter(() => accept(own));
    };
    const server = await this.#inner.transport.listen(address, take, options);
    if (this.isDead) void server.close();
    this.#servers.add(server);
    return server;
  }

  #wrap(inner: DuplexChannel): ProcessChannel {
    const channel = new ProcessChannel(this, inner, () => this.#channels.delete(channel));
    if (this.isDead) channel.destroy();
    else this.#channels.add(channel);
    return channel;
  }
}

class ProcessChannel implements DuplexChannel {
  readonly #process: SimulatedProcess;
  readonly #inner: DuplexChannel;
  readonly #forget: () => void;
  #paused = false;

  constructor(process: SimulatedProcess, inner: DuplexChannel, forget: () => void) {
    this.#process = process;
    this.#inner = inner;
    this.#forget = forget;
  }

  attach(handler: ChannelHandler): void {
    this.#inner.attach({
      data: (chunk) => this.#process.enter(() => handler.data(chunk)),
      ended: () => this.#process.enter(() => handler.ended()),
      drained: () => this.#process.enter(() => handler.drained()),
      closed: (error) => {
        this.#forget();
        this.#process.enter(() => handler.closed(error));
      },
    });
  }

  write(chunk: Uint8Array): boolean {
    return this.#process.isDead ? false : this.#inner.write(chunk);
  }

  end(): void {
    if (!this.#process.isDead) this.#inner.end();
  }

  pause(): void {
    this.#paused = true;
    this.#inner.pause();
  }

  resume(): void {
    this.#paused = false;
    if (this.#process.isRunning) this.#inner.resume();
  }

  destroy(): void {
    this.#inner.destroy();
  }

  /** A frozen process reads nothing. */
  hold(): void {
    this.#inner.pause();
  }

  letGo(): void {
    if (!this.#paused) this.#inner.resume();
  }
}

class ProcessLink implements Link {
  readonly end: MemoryLink;
  readonly #process: SimulatedProcess;

  constructor(process: SimulatedProcess, end: MemoryLink) {
    this.#process = process;
    this.end = end;
  }

  get url(): string {
    return this.end.url;
  }

  get abilities(): LinkAbilities {
    return this.end.abilities;
  }

  get counters(): LinkCounters {
    return this.end.counters;
  }

  get state(): LinkState {
    return this.#process.isDead ? 'closed' : this.end.state;
  }

  async open(handler: LinkHandler): Promise<void> {
    if (this.#process.isDead) return;
    await this.end.open({
      receive: (batch: FrameBatch) => handler.receive(batch), // reading is off while frozen
      stateChanged: (state, reason) => this.#process.enter(() => handler.stateChanged(state, reason)),
      overwriting: (slab) => handler.overwriting?.(slab),
    });
  }

  send(...frame: Parameters<Link['send']>): boolean {
    return !this.#process.isDead && this.end.send(...frame);
  }

  flush(): void {
    if (!this.#process.isDead) this.end.flush();
  }

  drain(): number {
    return this.#process.isDead ? 0 : this.end.drain();
  }

  untaken(): number {
    return this.#process.isDead ? 0 : this.end.untaken();
  }

  discardQueued(): number {
    return this.#process.isDead ? 0 : this.end.discardQueued();
  }

  async close(): Promise<void> {
    if (!this.#process.isDead) await this.end.close();
  }
}
