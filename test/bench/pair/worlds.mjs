/** The ways to protect a guest, each with the same guest and the same client: what bench:pair compares. */
import fs from 'node:fs';
import path from 'node:path';
import { control } from '../../../dist/cli/control.js';
import { Agent } from '../../qemu/lib/agent.mjs';
import { until } from '../../qemu/lib/command.mjs';
import { GUEST, Network } from '../../qemu/lib/net.mjs';
import { Rig } from '../../qemu/lib/rig.mjs';
import { Vm } from '../../qemu/lib/vm.mjs';

const PROTECT_MS_MAX = 60_000;
/** Checkpoints come from divergences and from us alone: no clock asks for one. */
const CHECKPOINT_DELAY_MS = 600_000;
const BANDWIDTH_BYTES_MAX = 2 ** 30;
/** The card that QEMU's filters understand without vnet headers. */
const PLAIN_CARD = ['csum', 'gso', 'mrg_rxbuf']
  .concat(
    ['guest_csum', 'guest_tso4', 'guest_tso6', 'guest_ufo', 'guest_ecn'],
    ['host_tso4', 'host_tso6', 'host_ufo', 'host_ecn'],
  )
  .map((name) => `,${name}=off`)
  .join('');

/** QEMU without a proxy beside it: a guest alone, or a pair that QEMU's own filters protect. */
class PlainWorld {
  #undo = [];

  constructor({ runFolder, name, laboratory }) {
    this.laboratory = laboratory;
    Object.assign(this, runFolder.newFolders(`bench-${name}`));
    runFolder.atEnd(() => this.end());
    this.network = new Network(runFolder.id);
  }

  async start() {
    this.#undo.push(
      () => fs.rmSync(this.sockets, { recursive: true, force: true }),
      () => this.network.remove(),
    );
    await this.network.create();
    await this.network.createBridge();
    await this.network.createBridgedTap('tap0');
    this.client = new Agent('client-agent', this.network.client, this.logs);
    this.#undo.push(() => this.client.stop());
    this.primary = await this.startVm('primary', this.primaryArgs());
    await this.primary.booted();
  }

  async startVm(name, extraArgs) {
    const { network, logs: directory, sockets } = this;
    const options = { name, directory, sockets, namespace: network.host, extraArgs };
    const vm = new Vm({ ...options, ...this.laboratory });
    this.#undo.push(() => vm.stop());
    await vm.connectMonitor();
    return vm;
  }

  async end() {
    for (const action of this.#undo.splice(0).reverse()) await action();
  }
}

export class GuestAlone extends PlainWorld {
  primaryArgs() {
    return tapCard('tap0', '', '');
  }
}

/**
 * filter-mirror, filter-redirector, colo-compare and filter-rewriter as in QEMU's docs/colo-proxy.txt, over unix
 * sockets instead of TCP (faster); the channel is a unix socket as well.
 */
export class QemuSuite extends PlainWorld {
  primaryArgs() {
    return [
      ...tapCard('tap0', ',vnet_hdr=off', PLAIN_CARD),
      ...['mirror', 'compare', 'own', 'out'].flatMap((name) =>
        this.#socket(name, name, ',server=on,wait=off'),
      ),
      ...this.#socket('own-in', 'own'),
      ...this.#socket('out-in', 'out'),
      ...filter('filter-mirror', 'm0', 'tx', 'outdev=mirror'),
      ...filter('filter-redirector', 'redire0', 'rx', 'indev=out'),
      ...filter('filter-redirector', 'redire1', 'rx', 'outdev=own'),
      ...['-object', 'iothread,id=io'],
      '-object',
      'colo-compare,id=comp0,primary_in=own-in,secondary_in=compare,outdev=out-in,iothread=io',
    ];
  }

  async start() {
    await super.start();
    const channel = `unix:${this.sockets}/channel`;
    this.secondary = await this.startVm('secondary', [
      ...tapCard('tap1', ',vnet_hdr=off', PLAIN_CARD),
      ...this.#socket('mirrored', 'mirror', ',reconnect=1'),
      ...this.#socket('answers', 'compare', ',reconnect=1'),
      ...filter('filter-redirector', 'f1', 'tx', 'indev=mirrored'),
      ...filter('filter-redirector', 'f2', 'rx', 'outdev=answers'),
      ...['-object', 'filter-rewriter,id=rew0,netdev=nic0,queue=all'],
      ...['-incoming', channel],
    ]);
    const pair = [this.primary.monitor, this.secondary.monitor];
    const capabilities = ['x-colo', 'events'].map((capability) => ({ capability, state: true }));
    for (const monitor of pair) await monitor.execute('migrate-set-capabilities', { capabilities });
    await this.#setParameters({ 'max-bandwidth': BANDWIDTH_BYTES_MAX });
    await this.forceCheckpoint();
    await this.primary.monitor.execute('migrate', { uri: channel });
    await until('COLO of both VMs', PROTECT_MS_MAX, async () => {
      const states = await Promise.all(pair.map((monitor) => monitor.execute('query-colo-status')));
      return states[0].mode === 'primary' && states[1].mode === 'secondary';
    });
  }

  /** Under COLO, QEMU takes a checkpoint whenever the delay is set (migration/options.c, migrate_params_apply). */
  forceCheckpoint() {
    return this.#setParameters({ 'x-checkpoint-delay': CHECKPOINT_DELAY_MS });
  }

  #setParameters(parameters) {
    return this.primary.monitor.execute('migrate-set-parameters', parameters);
  }

  #socket(id, name, options = '') {
    return ['-chardev', `socket,id=${id},path=${path.join(this.sockets, name)}${options}`];
  }
}

/** colo-proxy, with the VMs' and the proxy's arguments as it proposes them. */
export class Proxied {
  constructor({ runFolder, name, laboratory, linkKind }) {
    const config = { checkpoint: { periodMsMax: 0 }, log: { level: 'info', format: 'json' } };
    this.rig = new Rig({ runFolder, name: `bench-${name}`, linkKind, config, ...laboratory });
  }

  async start() {
    await this.rig.startUnprotected();
    await this.rig.protect();
  }

  get client() {
    return this.rig.client;
  }

  get primary() {
    return this.rig.primary;
  }

  forceCheckpoint() {
    return control({ runtime: { directory: this.rig.sockets } }, 'checkpoint', {});
  }

  end() {
    return this.rig.end();
  }
}

function tapCard(device, tapOptions, cardOptions) {
  return [
    ...['-netdev', `tap,id=nic0,ifname=${device},script=no,downscript=no${tapOptions}`],
    ...['-device', `virtio-net-pci,netdev=nic0,mac=${GUEST.mac}${cardOptions}`],
  ];
}

function filter(kind, id, queue, device) {
  return ['-object', `${kind},id=${id},netdev=nic0,queue=${queue},${device}`];
}
