/**
 * A replicated disk: mirrored to a fresh secondary, written by the guests of both, and whole whoever dies. What a client
 * was told is written is on the survivor's disk; what the primary alone had written since the last checkpoint is not.
 */
import path from 'node:path';
import { run, sleep, until } from '../lib/command.mjs';
import { GUEST } from '../lib/net.mjs';

const OVER_MS_MAX = 30_000;
const IO_MS_MAX = 5000;
const IO_LOOK_MS = 5;
const DISK_BYTES = 64 << 20;
/** Of the blocks that are written over and over, and how often before something happens. */
const [FIRST_BLOCK, BLOCKS, WRITES] = [100, 50, 60];

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

/** What was written last to each block of 64 KiB: one byte, all over it. */
class Drive {
  #client;
  #written = new Map();

  constructor(client) {
    this.#client = client;
  }

  /** By the guest; under protection by that of either VM, which then answers the client. */
  async write(block, byte) {
    await this.#ask(`write ${block} ${byte}`, `written=${block}`);
    this.#written.set(block, byte);
  }

  /** By one VM alone, as if its guest was ahead of the other: a survivor must not have it. */
  async writeInVain(vm, block, byte) {
    await this.#io(vm, `write -P ${byte} ${block * 64}k 64k`);
    this.#written.set(block, 0);
  }

  /** What the guest does not read as it was written last, in words. */
  async problemsOfGuest() {
    return this.#problems(async (block, byte) => {
      await this.#ask(`read ${block}`, `byte=${byte}`);
    });
  }

  /** The same of what QEMU reads from its drive. */
  async problemsOf(vm) {
    return this.#problems(async (block, byte) => {
      const said = await this.#io(vm, `read -P ${byte} ${block * 64}k 64k`);
      if (/failed|error/i.test(said)) throw new Error(said.split('\n')[0]);
    });
  }

  async #problems(expectBlock) {
    const wrong = [];
    for (const [block, byte] of this.#written) {
      await expectBlock(block, byte).catch(({ message }) =>
        wrong.push(`block ${block} is not ${byte}: ${message}`),
      );
    }
    return wrong;
  }

  async #ask(request, expected) {
    const answer = await this.#client.do('ask', { name: 'disk', request });
    if (answer !== expected) throw new Error(`"${answer}" came for "${request}"`);
  }

  /** The drive answers the monitor with nothing, and says on QEMU's output what it did. */
  async #io(vm, words) {
    const before = vm.child.logText().length;
    await vm.monitor.execute('human-monitor-command', { 'command-line': `qemu-io colo-disk0 "${words}"` });
    const said = () => {
      const text = vm.child.logText().slice(before);
      return /\d ops;/.test(text) && text;
    };
    return until(`"${words}" on ${vm.name}`, IO_MS_MAX, said, IO_LOOK_MS);
  }
}

/** The guest writes one block after the other, over and over. */
class Writing {
  count = 0;
  #isOver = false;

  constructor(drive) {
    this.ended = this.#write(drive);
    this.ended.catch(() => {}); // told by `end`
  }

  async more() {
    const goal = this.count + WRITES;
    await Promise.race([until(`${goal} writes`, OVER_MS_MAX, () => this.count >= goal), this.ended]);
  }

  async end() {
    this.#isOver = true;
    await this.ended;
  }

  async #write(drive) {
    while (!this.#isOver) {
      await drive.write(FIRST_BLOCK + (this.count % BLOCKS), 1 + (this.count % 255));
      this.count++;
    }
  }
}

export async function disks(rig, section) {
  const point = section.at('disks');
  const { client, proxy } = rig;
  const drive = new Drive(client);
  const right = async (what, ...vms) => {
    const wrong = await drive.problemsOfGuest();
    for (const vm of vms) wrong.push(...(await drive.problemsOf(vm)));
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
  await client.do('openConnection', { name: 'disk', host: GUEST.ipv6 });
  await drive.write(0, 0x11);

  const gap = await protectedWithGap(rig, 'first');
  point.expect('protected with a disk', true, `a steady connection was silent for ${gap.toFixed(0)} ms`);
  await right('the secondary has what was there before', rig.secondary);
  await drive.write(1, 0x22);
  await proxy.control(['checkpoint']);
  await right('the secondary has what a checkpoint covers', rig.secondary);
  await goesOn('under protection');

  const writing = new Writing(drive);
  await writing.more();
  await proxy.control(['checkpoint']);
  await writing.more();
  const writtenBefore = writing.count;
  await drive.writeInVain(rig.primary, 2, 0x33);
  rig.primary.kill();
  await proxy.until(
    'failed-over',
    OVER_MS_MAX,
    (m) => m.state === 'failed-over' && m.carrier === 'secondary',
  );
  await goesOn('after the death of the primary');
  await sleep(500); // QEMU commits active and hidden disk into the secondary's own
  await writing.more();
  await writing.end();
  point.expect(
    'the guest writes on',
    writing.count > writtenBefore,
    `${writtenBefore} writes before, ${writing.count} in all`,
  );
  await right('the survivor has what clients were told of, and nothing of the dead', rig.secondary);
  await drive.write(3, 0x44);

  await protectedWithGap(rig, 'second');
  await right('a fresh secondary has all of it', rig.primary);
  await drive.write(4, 0x55);
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
  await drive.write(5, 0x66);

  await protectedWithGap(rig, 'third');
  await proxy.control(['protect', '--cancel']);
  await right('protection was cancelled: the disk is whole', rig.secondary);
  await protectedWithGap(rig, 'fourth');
  await drive.write(6, 0x77);
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
