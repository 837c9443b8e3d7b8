/** One protected pair in its own namespaces: two VMs, the proxy, a client. Everything is gone when it ends. */
import fs from 'node:fs';
import path from 'node:path';
import { Agent } from './agent.mjs';
import { until } from './command.mjs';
import { Network, SECOND } from './net.mjs';
import { ProxyUnderTest } from './proxy.mjs';
import { Vm } from './vm.mjs';

const PROXY_START_MS_MAX = 30_000;
const PROTECT_MS_MAX = 90_000;
const STEADY_READ_MS_MAX = 20_000;

export class Rig {
  #undo = [];
  #ended = false;
  #secondaries = 0;

  /**
   * @param {object} options
   * @param {import('./run-folder.mjs').RunFolder} options.runFolder
   * @param {string} options.name
   * @param {'tap' | 'stream'} options.linkKind
   * @param {import('./qemu.mjs').Qemu} options.qemu
   * @param {'tcg' | 'kvm'} options.accelerator
   * @param {{kernel: string, initrd: string}} options.image
   * @param {object} options.config parts of the proxy's configuration beside links and paths
   * @param {boolean} [options.holdWords] the proxy can be stopped at a sync-point
   * @param {string[] | ((vm: {name: string, isFresh: boolean, folder: string}) => Promise<string[]>)} [options.qemuArgs]
   *   more arguments of each VM; `folder` is for its files
   * @param {boolean} [options.recorded] the flight recorder runs; it and the evidence stay among the logs
   * @param {boolean} [options.twoNics] the VMs have two network interfaces, on two networks
   */
  constructor(options) {
    this.options = options;
    const { runFolder, name, linkKind } = options;
    Object.assign(this, runFolder.newFolders(`${linkKind}-${name}`));
    runFolder.atEnd(() => this.end());
    this.atEnd(() => fs.rmSync(this.sockets, { recursive: true, force: true }));
    this.network = new Network(`${runFolder.id}-${linkKind}`);
  }

  /** Network, agents, proxy and the primary: its guest serves, unprotected. */
  async startUnprotected() {
    const { linkKind, holdWords, twoNics, recorded } = this.options;
    const config = recorded ? { ...this.options.config, ...this.#kept() } : this.options.config;
    this.atEnd(() => this.network.remove());
    await this.network.create();
    if (linkKind === 'tap') await this.network.createBridge();
    if (twoNics) await this.network.createSecond();
    if (twoNics && linkKind === 'tap') await this.network.createBridge(SECOND.bridge, SECOND.veth);

    this.client = new Agent('client-agent', this.network.client, this.logs);
    this.atEnd(() => this.client.stop());
    const hostAgent = new Agent('host-agent', this.network.host, this.logs);
    this.atEnd(() => hostAgent.stop());

    const namespace = this.network.host;
    const { logs: directory, sockets } = this;
    this.proxy = new ProxyUnderTest({
      ...{ linkKind, directory, sockets, namespace, hostAgent, config },
      ...{ holdWords, twoNics },
    });
    this.proxy.start();
    this.atEnd(() => this.proxy.stop());
    await this.proxy.until('its metrics', PROXY_START_MS_MAX, (metrics) => metrics.state);

    this.primary = await this.#startVm('primary', 'primary', []);
    await this.primary.booted();
    await this.proxy.until('the primary link', PROXY_START_MS_MAX, (m) =>
      m.sum('link_up', { side: 'primary' }),
    );
  }

  /** A fresh secondary comes, on the seat that today's primary leaves free; the proxy protects the pair by itself. */
  async protect() {
    const { secondary: seat } = await this.roles();
    const name = this.#secondaries++ === 0 ? seat : `${seat}-again-${this.#secondaries}`;
    await this[seat]?.stop();
    this[seat] = await this.#startVm(seat, name, ['-incoming', 'defer']);
    return this.proxy.until('protected', PROTECT_MS_MAX, (metrics) => metrics.state === 'protected');
  }

  /** Which seat holds today's primary, and which the other VM. */
  async roles() {
    const { carrier } = await this.proxy.metrics();
    return carrier === 'secondary'
      ? { primary: 'secondary', secondary: 'primary' }
      : { primary: 'primary', secondary: 'secondary' };
  }

  /**
   * One moment without a checkpoint under way or a frame on its way: the proxy's metrics, QEMU's own events, the
   * counters of the client's interface. It takes some 5 ms, and must: checkpoints may come 20 ms apart.
   */
  async steadyReading() {
    return until('a quiet moment without a checkpoint', STEADY_READ_MS_MAX, async () => {
      const before = await this.proxy.metrics();
      const client = await this.client.do('interfaceCounters', { name: 'eth0' });
      const { monitor } = this.primary;
      const reading = { resumes: monitor.countOf('RESUME'), stops: monitor.countOf('STOP'), client };
      const metrics = await this.proxy.metrics();
      const isQuiet = ['epoch', 'frames_released_total', 'link_frames_received_total'].every(
        (name) => before.sum(name) === metrics.sum(name),
      );
      const isProtected = before.state === 'protected' && metrics.state === 'protected';
      return isQuiet && isProtected && reading.resumes === reading.stops
        ? { ...reading, metrics }
        : undefined;
    });
  }

  damage() {
    return [this.primary, this.secondary].flatMap((vm) => vm?.damage() ?? []);
  }

  /** An interrupted run ends while its story goes on: what is started then is undone at once. */
  atEnd(action) {
    if (this.#ended) {
      action();
      throw new Error('the run was ended');
    }
    this.#undo.push(action);
  }

  async end() {
    this.#ended = true;
    for (const action of this.#undo.splice(0).reverse()) await action();
  }

  #kept() {
    const [record, evidence] = ['record', 'evidence'].map((name) => path.join(this.logs, name));
    return { record: { directory: record }, evidence: { directory: evidence } };
  }

  async #startVm(seat, name, incoming) {
    const { qemu, accelerator, image, qemuArgs = [] } = this.options;
    const proposed = await this.proxy.qemuArgs(seat, qemu.version);
    const { logs: directory, sockets } = this;
    const isFresh = incoming.length > 0;
    const more = Array.isArray(qemuArgs) ? qemuArgs : await qemuArgs({ name, isFresh, folder: sockets });
    const extraArgs = [...more, ...proposed, ...(proposed.includes('-incoming') ? [] : incoming)];
    const vm = new Vm({
      name,
      qemu,
      accelerator,
      image,
      directory,
      sockets,
      namespace: this.network.host,
      extraArgs,
    });
    this.atEnd(() => vm.stop());
    await vm.connectMonitor();
    return vm;
  }
}
