import { getSystemErrorName } from 'node:util';
import { type NetlinkPort, openNetlink } from '../../native/index.js';
import {
  type NetlinkMessage,
  NetlinkType,
  NetlinkWriter,
  netlinkErrno,
  netlinkMessages,
} from './netlink-message.js';
import {
  decodeAddress,
  decodeLink,
  decodeStatistics,
  encodeDeleteAddress,
  encodeDeleteLink,
  encodeGetAddresses,
  encodeGetLink,
  encodeGetStatistics,
  encodeSetLink,
  type InterfaceAddress,
  type InterfaceChange,
  type InterfaceInfo,
  type InterfaceStatistics,
  LINK_EVENTS_GROUP,
  RouteType,
} from './rtnetlink-codec.js';

/** The kernel's largest answer (NLMSG_GOODSIZE of a dump with 32 KiB allocations). */
const DATAGRAM_BYTES_MAX = 64 * 1024;
/** Datagrams read in one go for one answer; a dump of thousands of interfaces takes a few hundred. */
const DATAGRAMS_PER_ANSWER_MAX = 10_000;

/** What the kernel refused: `code` as in errno.h, `syscall` the request. */
export class NetlinkError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
  constructor(errno: number, request: string) {
    const code = errno > 0 ? getSystemErrorName(-errno) : 'EPROTO';
    super(`${request}: ${code}`);
    this.name = 'NetlinkError';
    this.code = code;
    this.errno = -errno;
    this.syscall = request;
  }
}

/**
 * Questions to and orders for the kernel about its interfaces. The kernel answers within the sending call, so
 * everything here is synchronous. Failures throw NetlinkError, except that an interface that is not there is
 * `undefined`.
 */
export class Rtnetlink {
  readonly #port: NetlinkPort;
  readonly #writer = new NetlinkWriter();
  readonly #buffer = Buffer.allocUnsafe(DATAGRAM_BYTES_MAX);
  #sequence = 0;

  constructor(port: NetlinkPort = openNetlink({ protocol: 'route' })) {
    this.#port = port;
  }

  /** One interface, by name or index, in this thread's network namespace. */
  interface(which: string | number): InterfaceInfo | undefined {
    const message = encodeGetLink(this.#writer, this.#nextSequence(), which);
    const answers = this.#ask(message, 'RTM_GETLINK', true);
    return answers === undefined ? undefined : firstOf(answers, RouteType.NEWLINK, decodeLink);
  }

  statistics(index: number): InterfaceStatistics | undefined {
    const message = encodeGetStatistics(this.#writer, this.#nextSequence(), index);
    const answers = this.#ask(message, 'RTM_GETSTATS', true);
    return answers === undefined ? undefined : firstOf(answers, RouteType.NEWSTATS, decodeStatistics);
  }

  addresses(index: number): InterfaceAddress[] {
    const answers =
      this.#ask(encodeGetAddresses(this.#writer, this.#nextSequence()), 'RTM_GETADDR', false) ?? [];
    return answers
      .filter((message) => message.type === RouteType.NEWADDR)
      .map(decodeAddress)
      .filter((address) => address?.index === index) as InterfaceAddress[];
  }

  change(index: number, change: InterfaceChange): void {
    this.#ask(encodeSetLink(this.#writer, this.#nextSequence(), index, change), 'RTM_SETLINK', false);
  }

  /** Takes an address off its interface. */
  deleteAddress(address: InterfaceAddress): void {
    this.#ask(encodeDeleteAddress(this.#writer, this.#nextSequence(), address), 'RTM_DELADDR', false);
  }

  delete(index: number): void {
    this.#ask(encodeDeleteLink(this.#writer, this.#nextSequence(), index), 'RTM_DELLINK', true);
  }

  close(): void {
    this.#port.close();
  }

  #nextSequence(): number {
    this.#sequence = (this.#sequence + 1) >>> 0;
    return this.#sequence;
  }

  /** Sends one request and collects its answers; undefined when there is no such interface and that `mayBeAbsent`. */
  #ask(message: Buffer, request: string, mayBeAbsent: boolean): NetlinkMessage[] | undefined {
    const sequence = this.#sequence;
    const isDump = (message.readUInt16LE(6) & 0x300) !== 0;
    this.#port.send(message);
    const answers: NetlinkMessage[] = [];
    for (let datagrams = 0; datagrams < DATAGRAMS_PER_ANSWER_MAX; datagrams++) {
      const length = this.#port.receive(this.#buffer);
      if (length < 0) break;
      for (const answer of netlinkMessages(Buffer.from(this.#buffer.subarray(0, length)))) {
        if (answer.sequence !== sequence) continue;
        if (answer.type === NetlinkType.DONE) return answers;
        if (answer.type === NetlinkType.ERROR) {
          const errno = netlinkErrno(answer.body);
          if (errno === 0) return answers;
          const error = new NetlinkError(errno, request);
          if (mayBeAbsent && error.code === 'ENODEV') return undefined;
          throw error;
        }
        answers.push(answer);
        if (!isDump) return answers;
      }
    }
    throw new NetlinkError(0, `${request} was not answered`);
  }
}

function firstOf<T>(
  answers: NetlinkMessage[],
  type: number,
  decode: (message: NetlinkMessage) => T | undefined,
): T | undefined {
  const answer = answers.find((message) => message.type === type);
  return answer && decode(answer);
}

/**
 * Says when something about an interface may have changed: it came, went, was renamed, went up or down, got or
 * lost its carrier or master. What exactly is asked again with `Rtnetlink`, so that no event can be missed or
 * misread.
 */
export class InterfaceMonitor {
  readonly #port: NetlinkPort;
  readonly #buffer = Buffer.allocUnsafe(DATAGRAM_BYTES_MAX);

  /**
   * @param isWatched decides which events matter
   * @param changed called once for all that waited together, and when events were lost
   */
  constructor(
    isWatched: (link: InterfaceInfo) => boolean,
    changed: () => void,
    port: NetlinkPort = openNetlink({ protocol: 'route', groups: LINK_EVENTS_GROUP }),
  ) {
    this.#port = port;
    port.start(() => {
      if (this.#readEvents(isWatched)) changed();
    });
  }

  #readEvents(isWatched: (link: InterfaceInfo) => boolean): boolean {
    let watched = false;
    for (let datagrams = 0; datagrams < DATAGRAMS_PER_ANSWER_MAX; datagrams++) {
      let length: number;
      try {
        length = this.#port.receive(this.#buffer);
      } catch {
        // ENOBUFS: events were lost, so anything may have changed.
        return true;
      }
      if (length < 0) break;
      for (const message of netlinkMessages(this.#buffer.subarray(0, length))) {
        const link = decodeLink(message);
        if (link && isWatched(link)) watched = true;
      }
    }
    return watched;
  }

  close(): void {
    this.#port.close();
  }
}
