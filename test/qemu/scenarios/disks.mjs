/**
 * A replicated disk: mirrored to a fresh secondary, the primary's at every checkpoint, and whole whoever dies. The
 * laboratory writes to the drive through QEMU's monitor, the way a guest's write goes: quorum, replication, NBD.
 */
import path from 'node:path';
import { run, sleep } from '../lib/command.mjs';
import { GUEST } from '../lib/net.mjs';

const OVER_MS_MAX = 30_000;
const DISK_BYTES = 64 << 20;

export const DISKS = [{ drive: 'colo-disk0', parent: 'parent0' }];

/** The drive of a VM that boots, and of one that is to be loaded (QEMU's docs/block-replication.txt). */
export async function diskArgs({ name, isFresh, folder }) {
  const image = async (kind) => {
    const file = path.join(folder, `${name}.${kind}.qcow2`);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', file, String(DISK_BYTES)]);
    return file;
  };
  const quorum = 'if=none,id=colo-disk0,driver=quorum,read-pattern=fifo,vote-threshold=1';
  const device = ['-device', 'virtio-blk-pci,drive=colo-disk0,id=disk0'];
  const disk = await image('disk');
  if (!isFresh) {
    return ['-drive', `${quorum},children.0.file.filename=${disk},children.0.driver=qcow2`, ...device];
  }
  const replication = [
    'if=none,id=childs0,driver=replication,mode=secondary,top-id=colo-disk0',
    `file.driver=qcow2,file.file.filename=${await image('active')}`,
    `file.backing.driver=qcow2,file.backing.file.filename=${await image('hidden')}`,
    'file.backing.backing=parent0',
  ].join(',');
  return [
    ...['-drive', `if=none,id=parent0,file.filename=${disk},driver=qcow2`],
    ...['-drive', replication],
    ...['-drive', `${quorum},children.0=childs0`],
    ...device,
  ];
}

/** Each block of 64 KiB gets a pattern of its own. */
class Drive {
  #written = new Map();

  async write(vm, block, pattern) {
    await this.#io(vm, `write -P ${pattern} ${block * 64}k 64k`);
    this.#written.set(block, pattern);
  }

  /** Written to a VM that dies before a checkpoint: the survivor must not have it. */
  async writeInVain(vm, block, pattern) {
    await this.#io(vm, `write -P ${pattern} ${block * 64}k 64k`);
    this.#written.set(block, 0);
  }

  /** What is not as it was written last, in words. */
  async problems(vm) {
    const wrong = [];
    for (const [block, pattern] of this.#written) {
      const said = await this.#io(vm, `read -P ${pattern} ${block * 64}k 64k`);
      if (/failed|error/i.test(said)) wrong.push(`block ${block} is not ${pattern}: ${said.split('\n')[0]}`);
    }
    return wrong;
  }

  async #io(vm, words) {
    return String(
      await vm.monitor.execute('human-monitor-command', { 'command-line': `qemu-io colo-disk0 "${words}"` }),
    );
  }
}

export async function disks(rig, section) {
  const point = section.at('disks');
  const { client, proxy } = rig;
  const drive = new Drive();
  const right = async (what, vm) => {
    const wrong = await drive.problems(vm);
    point.expect(what, wrong.length === 0, wrong.join('; ') || 'every block as written');
  };
  const goesOn = async (when) => {
    const { value } = await client.do('increment', { name: 'old', count: 5 });
    counter += 5;
    point.expect(`the old connection goes on ${when}`, value === counter, `counter ${value} of ${counter}`);
  };
  const nodes = async (vm) => {
    const list = await vm.monitor.execute('query-named-block-nodes', { flat: true });
    return list.map((node) => node['node-name']).filter((name) => name.startsWith('colo-replica'));
  };
  let counter = 0;
  await client.do('openConnection', { name: 'old', host: GUEST.ipv4 });
  await drive.write(rig.primary, 0, 0x11);

  const gap = await protectedWithGap(rig, 'first');
  point.expect('protected with a disk', true, `a steady connection was silent for ${gap.toFixed(0)} ms`);
  await right('the secondary has what was there before', rig.secondary);
  await drive.write(rig.primary, 1, 0x22);
  await proxy.control(['checkpoint']);
  await right('the secondary has what a checkpoint covers', rig.secondary);
  await goesOn('under protection');

  await drive.writeInVain(rig.primary, 2, 0x33);
  rig.primary.kill();
  await proxy.until(
    'failed-over',
    OVER_MS_MAX,
    (m) => m.state === 'failed-over' && m.carrier === 'secondary',
  );
  await goesOn('after the death of the primary');
  await sleep(500); // QEMU commits active and hidden disk into the secondary's own
  await right('the survivor has the last checkpoint, and nothing after it', rig.secondary);
  await drive.write(rig.secondary, 3, 0x44);

  await protectedWithGap(rig, 'second');
  await right('a fresh secondary has all of it', rig.primary);
  await drive.write(rig.secondary, 4, 0x55);
  rig.primary.kill();
  await proxy.until(
    'failed-over',
    OVER_MS_MAX,
    (m) => m.state === 'failed-over' && m.sum('failovers_total', { kind: 'secondary-lost' }) === 1,
  );
  await goesOn('after the death of the secondary');
  await right('the primary keeps its disk', rig.secondary);
  const left = await nodes(rig.secondary);
  point.expect('and lets go of the replica', left.length === 0, left.join(' ') || 'no replication node');
  await drive.write(rig.secondary, 5, 0x66);

  await protectedWithGap(rig, 'third');
  await proxy.control(['protect', '--cancel']);
  await right('protection was cancelled: the disk is whole', rig.secondary);
  await protectedWithGap(rig, 'fourth');
  await drive.write(rig.secondary, 6, 0x77);
  await proxy.control(['switchover']);
  await proxy.until('switched', OVER_MS_MAX, (m) => m.carrier === 'primary');
  await sleep(500);
  await goesOn('after a switchover');
  await right('and the disk with it', rig.primary);
}

/** @returns {Promise<number>} the longest silence of a steady connection while protection began, in milliseconds */
async function protectedWithGap(rig, name) {
  await rig.client.do('startSteady', { name, host: GUEST.ipv4 });
  await rig.protect();
  const { gapMsMax, error } = await rig.client.do('stopSteady', { name });
  if (error) throw new Error(`a steady connection: ${error}`);
  return gapMsMax;
}
