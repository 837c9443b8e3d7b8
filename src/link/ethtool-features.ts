import { type NetlinkPort, openNetlink } from '../../native/index.js';
import {
  attributeText,
  NetlinkFlag,
  type NetlinkMessage,
  NetlinkType,
  NetlinkWriter,
  netlinkAttributeList,
  netlinkAttributes,
  netlinkErrno,
  netlinkMessages,
} from './netlink-message.js';

/** What the driver of an interface takes without the kernel's help. */
export interface SegmentationFeatures {
  /** TCP super-frames over IPv4 and over IPv6. */
  readonly tcp4: boolean;
  readonly tcp6: boolean;
  /** The same with the CWR flag. */
  readonly tcpEcn: boolean;
  /** UDP super-frames (USO). */
  readonly udp: boolean;
}

const CONTROL_FAMILY = 0x10; // GENL_ID_CTRL
const GENERIC_HEADER_BYTES = 4; // struct genlmsghdr
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;
const ETHTOOL_MSG_FEATURES_GET = 11;
const FEATURES_HEADER = 1;
const FEATURES_ACTIVE = 4;
const HEADER_DEV_INDEX = 1;
const BITSET_BITS = 3;
const BITSET_BITS_BIT = 1;
const BIT_NAME = 2;

const DATAGRAMS_PER_ANSWER_MAX = 16;

/**
 * Asks the kernel which offloads an interface has now (linux/ethtool_netlink.h). On a TAP they are those its
 * holder asked for (TUNSETOFFLOAD), which change when a guest's driver starts: rtnetlink reports the change.
 */
export class EthtoolFeatures {
  readonly #port: NetlinkPort;
  readonly #writer = new NetlinkWriter();
  readonly #buffer = Buffer.allocUnsafe(64 * 1024);
  #sequence = 0;
  #family: number | undefined;

  constructor(port: NetlinkPort = openNetlink({ protocol: 'generic' })) {
    this.#port = port;
  }

  /** Undefined when the interface is gone or the kernel has no ethtool netlink (before 5.7). */
  segmentation(index: number): SegmentationFeatures | undefined {
    this.#family ??= this.#findFamily();
    if (this.#family === undefined) return undefined;
    this.#begin(this.#family, ETHTOOL_MSG_FEATURES_GET).nested(FEATURES_HEADER, () => {
      this.#writer.attribute(HEADER_DEV_INDEX, () => this.#writer.u32(index));
    });
    const active = this.#ask()?.get(FEATURES_ACTIVE);
    if (!active) return undefined;
    const names = bitNames(active);
    return {
      tcp4: names.has('tx-tcp-segmentation'),
      tcp6: names.has('tx-tcp6-segmentation'),
      tcpEcn: names.has('tx-tcp-ecn-segmentation'),
      udp: names.has('tx-udp-segmentation'),
    };
  }

  close(): void {
    this.#port.close();
  }

  #findFamily(): number | undefined {
    this.#begin(CONTROL_FAMILY, CTRL_CMD_GETFAMILY).text(CTRL_ATTR_FAMILY_NAME, 'ethtool');
    const id = this.#ask()?.get(CTRL_ATTR_FAMILY_ID);
    return id && id.length >= 2 ? id.readUInt16LE(0) : undefined;
  }

  #begin(family: number, command: number): NetlinkWriter {
    this.#sequence = (this.#sequence + 1) >>> 0;
    return this.#writer.begin(family, NetlinkFlag.REQUEST, this.#sequence).u8(command).u8(1).u16(0);
  }

  /** Attributes of the one answer; undefined when the kernel refused. */
  #ask(): Map<number, Buffer> | undefined {
    this.#port.send(this.#writer.finish());
    for (let datagrams = 0; datagrams < DATAGRAMS_PER_ANSWER_MAX; datagrams++) {
      const length = this.#port.receive(this.#buffer);
      if (length < 0) return undefined;
      for (const message of netlinkMessages(this.#buffer.subarray(0, length))) {
        if (message.sequence === this.#sequence && !isAcknowledgement(message)) return answerOf(message);
      }
    }
    return undefined;
  }
}

function isAcknowledgement(message: NetlinkMessage): boolean {
  return message.type === NetlinkType.ERROR && netlinkErrno(message.body) === 0;
}

function answerOf(message: NetlinkMessage): Map<number, Buffer> | undefined {
  return message.type === NetlinkType.ERROR
    ? undefined
    : netlinkAttributes(message.body, GENERIC_HEADER_BYTES);
}

/** Names of the bits that a verbose ethtool bitset lists as set. */
function bitNames(bitset: Buffer): Set<string> {
  const names = new Set<string>();
  const bits = netlinkAttributes(bitset).get(BITSET_BITS);
  if (!bits) return names;
  for (const [type, bit] of netlinkAttributeList(bits)) {
    if (type !== BITSET_BITS_BIT) continue;
    const name = attributeText(netlinkAttributes(bit).get(BIT_NAME));
    if (name !== undefined) names.add(name);
  }
  return names;
}
