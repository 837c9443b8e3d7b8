/** One virtual machine: its QEMU process, its serial log and a monitor of the laboratory's own. */
import fs from 'node:fs';
import path from 'node:path';
import { Child } from './child.mjs';
import { until } from './command.mjs';
import { GUEST, SECOND } from './net.mjs';
import { Monitor } from './qmp.mjs';

const BOOT_MS_MAX = 120_000;
const DAMAGE = /Kernel panic|Oops|BUG:|general protection|stack-protector|rcu.*stall|services: ended/;
const DAMAGE_EVENTS = new Set(['RESET', 'SHUTDOWN', 'GUEST_PANICKED']);

export class Vm {
  /**
   * @param {object} options
   * @param {string} options.name also of its log files
   * @param {import('./qemu.mjs').Qemu} options.qemu
   * @param {string} options.accelerator
   * @param {{kernel: string, initrd: string}} options.image
   * @param {string} options.directory for the logs
   * @param {string} options.sockets folder of the harness' monitor socket
   * @param {string} options.namespace
   * @param {string[]} options.extraArgs link, QMP and incoming arguments
   */
  constructor({ name, qemu, accelerator, image, directory, sockets, namespace, extraArgs }) {
    this.name = name;
    this.serialFile = path.join(directory, `${name}.serial`);
    this.monitorPath = path.join(sockets, `${name}.lab.qmp`);
    const addresses = [
      `lab.ipv4=${GUEST.ipv4}/24 lab.ipv6=${GUEST.ipv6}/64`,
      `lab.second.ipv4=${SECOND.guest.ipv4}/24 lab.second.ipv6=${SECOND.guest.ipv6}/64`,
    ];
    const kernelLine = `console=ttyS0 quiet panic=0 ${addresses.join(' ')}`;
    const args = [
      ...['-name', name, '-machine', 'pc', '-accel', accelerator, '-smp', '1', '-m', qemu.memory],
      ...['-cpu', accelerator === 'kvm' ? 'host' : 'qemu64'],
      ...['-nodefaults', '-no-user-config', '-display', 'none'],
      ...['-kernel', image.kernel, '-initrd', image.initrd, '-append', kernelLine],
      ...['-serial', `file:${this.serialFile}`],
      ...['-qmp', `unix:${this.monitorPath},server=on,wait=off`],
      ...['-global', 'virtio-net-pci.romfile='], // no boot from the network
      ...extraArgs,
    ];
    this.child = new Child(name, qemu.command(namespace, args), {
      logFile: path.join(directory, `${name}.log`),
    });
  }

  /** @type {Monitor} */
  monitor;

  async connectMonitor() {
    this.monitor = await Monitor.connect(this.monitorPath).catch((error) => {
      throw new Error(`${this.name}: ${error.message}\n${this.child.logText()}`);
    });
  }

  async booted() {
    await until(`${this.name}: the guest's services`, BOOT_MS_MAX, () => {
      if (!this.child.isRunning) throw new Error(`${this.name} ended while booting: ${this.child.logText()}`);
      return this.serialText().includes('services: ready');
    });
  }

  serialText() {
    return fs.existsSync(this.serialFile) ? fs.readFileSync(this.serialFile, 'latin1') : '';
  }

  /** The bytes that this VM's guest gave to requests whose answers differ between the VMs. */
  differingAnswers() {
    return new Set(
      [...this.serialText().matchAll(/(?:rand|datagram)=([0-9a-f]{48})/g)].map(([, hex]) => hex),
    );
  }

  heartbeats() {
    return this.serialText().match(/heartbeat \d+/g)?.length ?? 0;
  }

  /** What went wrong in the guest, in words; empty when nothing did. */
  damage() {
    const line = this.serialText()
      .split('\n')
      .find((text) => DAMAGE.test(text));
    const events = (this.monitor?.events ?? []).filter(({ name }) => DAMAGE_EVENTS.has(name));
    return [
      ...(line ? [`${this.name}: ${line.trim()}`] : []),
      ...events.map(({ name }) => `${this.name}: ${name}`),
    ];
  }

  kill() {
    this.child.kill('SIGKILL');
  }

  async stop() {
    this.monitor?.close();
    await this.child.stop('SIGKILL');
  }
}
