/**
 * Every key of the configuration with its type, range, default and meaning, in one place. What is derived
 * from other keys (paths under the runtime directory) is filled in by derive.ts.
 */
import { z } from 'zod';
import {
  absolutePath,
  account,
  bytes,
  count,
  flag,
  interfaceName,
  isHostAndPort,
  linkUrl,
  milliseconds,
  socketAddress,
} from './fields.js';
import { ruleSchema } from './rule-schema.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

function vmSchema(role: 'primary' | 'secondary') {
  return z
    .strictObject({
      link: linkUrl()
        .optional()
        .describe(`Where the ${role} VM's frames come from and go to: a link URL. Required`),
      qmp: socketAddress(
        `QMP monitor of the ${role}, for the proxy alone: a monitor serves one client. Default: ${role}.qmp in the runtime directory`,
      ).optional(),
      createTap: flag(false, 'Create the interface of a packet: link, persistent, when it is absent'),
    })
    .prefault({});
}

/** What QEMU's id_wellformed takes, and an NBD URI. */
function driveId() {
  return z.string().regex(/^[A-Za-z][A-Za-z0-9_.-]{0,63}$/, 'must be the id of a QEMU drive');
}

export const configSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$/, 'must be 1 to 32 letters, digits, "_", "." or "-"')
    .default('default')
    .describe('Name of the protected pair: tells several proxies on one host apart'),

  primary: vmSchema('primary'),
  secondary: vmSchema('secondary'),

  client: z
    .strictObject({
      link: linkUrl().default('tap:colo0').describe("The clients' side: a link URL"),
      bridge: interfaceName('Bridge that the tap: link of the client side joins').optional(),
    })
    .prefault({}),

  nics: z
    .array(
      z.strictObject({
        primary: linkUrl(),
        secondary: linkUrl(),
        client: linkUrl(),
        createTap: flag(false, 'Create the interfaces of packet: links, persistent, when they are absent'),
      }),
    )
    .max(15)
    .default([])
    .describe(
      'More network interfaces of the VMs, after the first: a list of primary, secondary and client link URLs, and createTap. One epoch holds for all',
    ),

  runtime: z
    .strictObject({
      directory: z
        .string()
        .regex(/^\/[^\s,]*$/, 'must be an absolute path without whitespace or comma')
        .optional()
        .describe('Where the sockets live. Default: /run/colo-proxy/NAME'),
      group: account('Group of the directory and of the sockets the proxy makes, so that QEMU may use them'),
      mode: z
        .string('must be an octal string in quotes such as "0750"')
        .regex(/^0?[0-7]{3}$/, 'must be an octal string in quotes such as "0750"')
        .default('0750')
        .describe('Permissions of the directory, an octal string'),
    })
    .prefault({}),

  migration: z
    .strictObject({
      listen: socketAddress(
        'Where the proxy waits for the primary to migrate to. Default: migrate.sock in the runtime directory',
      ).optional(),
      connect: socketAddress(
        'Where the secondary waits for its incoming migration. Default: incoming.sock in the runtime directory',
      ).optional(),
      connectBack: socketAddress(
        "Where a fresh secondary on the primary's link waits, after a failover. Default: incoming-back.sock in the runtime directory",
      ).optional(),
      nbd: socketAddress(
        'Where the NBD server of the secondary listens while disks are replicated. Default: nbd.sock in the runtime directory',
      ).optional(),
      nbdBack: socketAddress(
        "The same for a fresh secondary on the primary's link. Default: nbd-back.sock in the runtime directory",
      ).optional(),
    })
    .prefault({}),

  disks: z
    .array(
      z.strictObject({
        drive: driveId(),
        parent: driveId(),
      }),
    )
    .max(16)
    .default([])
    .describe(
      'Drives that are replicated: a list of drive, the id of a quorum drive on both VMs, and parent, the id of the drive that a secondary exports. See operating.md',
    ),

  tap: z
    .strictObject({
      owner: account('User who may open the taps the proxy creates'),
      group: account('Group whose members may open the taps the proxy creates'),
      isolate: flag(true, "Keep the host's own network stack off the VMs' taps"),
    })
    .prefault({}),

  links: z
    .strictObject({
      receiveBufferBytes: bytes(16 * MIB, 64 * KIB, GIB, 'Kernel receive buffer of each packet: link'),
      sendQueueBytesMax: bytes(
        8 * MIB,
        128 * KIB,
        GIB,
        'Frames waiting for a link that takes none; beyond it they are dropped and counted',
      ),
      busyPollUs: count(
        0,
        0,
        10_000,
        'Microseconds for which the proxy keeps looking for more frames before it sleeps: less latency, up to one core more; 0: off',
      ),
      reconnectMsMin: milliseconds(
        20,
        10,
        'First pause before a lost link is opened again; doubles each time',
      ),
      reconnectMsMax: milliseconds(1000, 10, 'Longest pause before a lost link is opened again'),
    })
    .prefault({}),

  gate: z
    .strictObject({
      framesMax: count(
        16_384,
        1,
        16_777_216,
        'Client frames that wait while the gate is closed; beyond it the newest is dropped and counted',
      ),
      bytesMax: bytes(32 * MIB, 128 * KIB, 4 * GIB, 'Bytes of those frames'),
      broadcastPerSecondMax: count(
        10_000,
        0,
        100_000_000,
        'Broadcast and multicast frames let in from the client side; beyond it they are dropped and counted',
      ),
    })
    .prefault({}),

  compare: z
    .strictObject({
      holdMsMin: milliseconds(
        50,
        1,
        'Shortest time after which output of only one VM asks for a checkpoint; adapts to the lag seen',
      ),
      holdMsMax: milliseconds(
        1000,
        1,
        'Longest time after which output of only one VM asks for a checkpoint',
      ),
      reorderMsMax: milliseconds(
        20,
        0,
        'Datagrams of one flow may come in another order within this time before they count as diverged',
      ),
      heldFramesMax: count(
        65_536,
        64,
        16_777_216,
        'Frames of the primary held back; reaching it asks for a checkpoint',
      ),
      heldBytesMax: bytes(256 * MIB, MIB, 64 * GIB, 'Bytes held back; reaching it asks for a checkpoint'),
      heldBytesPerFlowMax: bytes(
        32 * MIB,
        128 * KIB,
        64 * GIB,
        'Bytes held back for one flow; reaching it asks for a checkpoint',
      ),
      flowsMax: count(131_072, 64, 16_777_216, 'Flows known at one time'),
      flowIdleMsMax: milliseconds(
        7_200_000,
        1000,
        'A flow without a frame for this long is forgotten',
        7 * 86_400_000,
      ),
      releasedRecordBytesMax: bytes(
        16 * MIB,
        64 * KIB,
        64 * GIB,
        'Released payload kept to verify retransmissions',
      ),
    })
    .prefault({}),

  rules: z
    .array(ruleSchema)
    .max(100)
    .default([])
    .describe(
      'Exceptions from comparing, each with its why; the first that fits a flow decides. See rules.md beside this page',
    ),

  checkpoint: z
    .strictObject({
      distanceMsMin: milliseconds(100, 0, 'Least time between two checkpoints; output stays held meanwhile'),
      periodMsMax: milliseconds(0, 0, 'A checkpoint is taken at least this often; 0: only when needed'),
      quiesceMsMax: milliseconds(
        50,
        0,
        'How long both VMs get to take what was fed to them before a checkpoint',
      ),
      requestMsMax: milliseconds(2000, 10, 'From asking the primary to its checkpoint-request'),
      suspendMsMax: milliseconds(
        2000,
        10,
        'From checkpoint-request to checkpoint-reply: the secondary stops',
      ),
      saveMsMax: milliseconds(5000, 10, 'From checkpoint-reply to vmstate-send: the primary stops'),
      transferMsMax: milliseconds(10_000, 10, 'From vmstate-send to vmstate-received: the state travels'),
      loadMsMax: milliseconds(10_000, 10, 'From vmstate-received to vmstate-loaded: the secondary loads it'),
      migrateMsMax: milliseconds(600_000, 100, 'From migrate to checkpoint-ready: the whole initial copy'),
      bandwidthBytesPerSecondMax: bytes(
        GIB,
        MIB,
        1_000_000_000_000,
        'max-bandwidth of the migration channel',
      ),
      mode: z
        .enum(['compare', 'periodic'])
        .default('compare')
        .describe('compare: on demand; periodic: nothing is compared, output waits for the next checkpoint'),
      periodicMs: milliseconds(100, 1, 'Mode periodic: from the end of a checkpoint to the next'),
      adaptive: flag(true, 'Mode compare: periodic by itself while the outputs never agree'),
      adaptivePeriodMsMin: milliseconds(20, 1, 'Shortest interval chosen then; about 1.4 times the pause'),
      dialect: z
        .enum(['upstream', 'auto', 'v8', 'v9', 'v15'])
        .default('upstream')
        .describe(
          'Dialect of the checkpoint protocol. upstream: released QEMUs; the others: the patch series before; auto: upstream or v8, by what the VMs say',
        ),
    })
    .prefault({}),

  qmp: z
    .strictObject({
      commandMsMax: milliseconds(5000, 100, 'How long QEMU gets to answer a command'),
      reconnectMsMin: milliseconds(
        100,
        10,
        'First pause before a lost monitor is connected again; doubles each time',
      ),
      reconnectMsMax: milliseconds(2000, 10, 'Longest pause before a lost monitor is connected again'),
    })
    .prefault({}),

  failover: z
    .strictObject({
      auto: flag(true, 'Fail over without a person when a VM is surely dead'),
      announceCount: count(5, 0, 100, "How often the guest's addresses are announced on the client side"),
      announceEveryMs: milliseconds(100, 1, 'Pause between two announcements', 60_000),
      heartbeatEveryMs: milliseconds(50, 10, 'Between two questions to the monitor of each VM'),
      heartbeatMsMax: milliseconds(
        350,
        20,
        'A monitor silent, or frames not taken, for this long are signs of a lost VM; both together are enough',
      ),
      heartbeatAloneMsMax: milliseconds(10_000, 100, 'A monitor silent for this long is enough by itself'),
      probeProgram: absolutePath(
        'Run as PROGRAM probe PAIR while protected; exit code 0: the guest serves. Failing twice in a row is a sign of a lost VM, as heartbeatMsMax says',
      ).optional(),
      probeAddress: z
        .union([z.ipv4(), z.ipv6()], { error: 'must be an IPv4 or IPv6 address' })
        .optional()
        .describe(
          'Pinged while protected: an address that only the guest answers. Silent twice in a row is such a sign, too',
        ),
      probeEveryMs: milliseconds(500, 100, 'Between two looks of a probe'),
      probeMsMax: milliseconds(450, 50, 'How long a probe may take; later counts as failed'),
      protectAuto: flag(true, 'Protect as soon as a fresh secondary is there; else by colo-proxy protect'),
      stateFile: absolutePath(
        'What must survive the proxy: roles, and connections that are translated since a failover. Default: state.json in the runtime directory',
      ).optional(),
      fenceProgram: absolutePath(
        'Run as PROGRAM fence PAIR SEAT GENERATION before the VM on the other seat goes on; exit code 0: SEAT cannot come back',
      ).optional(),
      fenceMsMax: milliseconds(30_000, 10, 'How long the fencing program gets; later counts as failed'),
      arbiter: z
        .strictObject({
          kind: z
            .enum(['none', 'exec', 'file', 'etcd'])
            .default('none')
            .describe('Who is asked before any promotion. none: there is one host and this proxy alone'),
          program: absolutePath(
            'exec: run as PROGRAM claim PAIR SEAT REASON GENERATION; exit code 0: go on, 1: the other side does',
          ).optional(),
          directory: absolutePath('file: directory on storage that all sides share').optional(),
          endpoints: z
            .string()
            .regex(/^https?:\/\/[^\s,]+(,https?:\/\/[^\s,]+)*$/, 'must be URLs with commas between')
            .default('http://127.0.0.1:2379')
            .describe('etcd: its client URLs, with commas between'),
          prefix: z
            .string()
            .regex(/^\/[A-Za-z0-9_./-]{0,200}$/, 'must begin with / and be plain')
            .default('/colo-proxy')
            .describe('etcd: what the keys begin with'),
          leaseMs: milliseconds(5000, 1000, 'file, etcd: how long the right lasts without a renewal'),
          marginMs: milliseconds(500, 10, 'file, etcd: output stops this much before the lease ends'),
          claimMsMax: milliseconds(3000, 10, 'How long an answer may take; later is unknown, which is no'),
          retryMs: milliseconds(1000, 10, 'Pause before the arbiter is asked again after a no'),
        })
        .prefault({}),
    })
    .prefault({}),

  http: z
    .strictObject({
      listen: z
        .string()
        .refine(isListenAddress, 'must be HOST:PORT, unix:PATH or off')
        .default('127.0.0.1:9120')
        .describe('Admin address with metrics, health and status: HOST:PORT, unix:PATH or off'),
      tokenFile: z
        .string()
        .regex(/^\/\S*$/, 'must be an absolute path without whitespace')
        .optional()
        .describe('File with the token that allows actions on the admin address; without one it only tells'),
    })
    .prefault({}),

  evidence: z
    .strictObject({
      directory: z
        .string()
        .regex(/^\/[^\s,]*$/, 'must be an absolute path without whitespace or comma')
        .optional()
        .describe(
          'Where frames of divergences are kept, as pcapng. Default: evidence in the runtime directory',
        ),
      bytesMax: bytes(16 * MIB, 0, 1024 * GIB, 'All files of the ring together; 0: write none'),
      ageMsMax: milliseconds(
        7 * 86_400_000,
        60_000,
        'Files older than this are removed when the next is begun',
        365 * 86_400_000,
      ),
      keptMax: count(200, 1, 10_000, 'Explained divergences kept in memory'),
    })
    .prefault({}),

  record: z
    .strictObject({
      directory: z
        .string()
        .regex(/^\/[^\s,]*$/, 'must be an absolute path without whitespace or comma')
        .optional()
        .describe(
          'Flight recorder: everything compared and every verdict, as pcapng for replay. Off unless given',
        ),
      bytesMax: bytes(256 * MIB, MIB, 1024 * GIB, 'All files of the recording together; the oldest go first'),
      ageMsMax: milliseconds(
        86_400_000,
        60_000,
        'Files older than this are removed when the next is begun',
        365 * 86_400_000,
      ),
    })
    .prefault({}),

  log: z
    .strictObject({
      level: z
        .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
        .default('info')
        .describe('Least level that is logged'),
      format: z
        .enum(['auto', 'json', 'pretty'])
        .default('auto')
        .describe('json: one object a line; pretty: for people; auto: pretty on a terminal'),
    })
    .prefault({}),
});

function isListenAddress(text: string): boolean {
  if (text === 'off') return true;
  if (text.startsWith('unix:/')) return !/\s/.test(text);
  return isHostAndPort(text, 0);
}

export type ParsedConfig = z.output<typeof configSchema>;
