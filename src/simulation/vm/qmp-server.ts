import type { QmpObject } from '../../qmp/framing.js';
import { isObject, QmpLineReader } from '../../qmp/framing.js';
import type { Address, ChannelServer, DuplexChannel, Transport } from '../../system/channel.js';
import type { Clock } from '../../system/clock.js';

const LINE_BYTES_MAX = 64 * 1024;

export interface QemuVersionTriple {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
}

/** A command QEMU refuses, with its error class. */
export class QmpRefusal extends Error {
  readonly errorClass: string;
  constructor(text: string, errorClass = 'GenericError') {
    super(text);
    this.errorClass = errorClass;
  }
}

export interface QmpServerOptions {
  readonly transport: Transport;
  readonly address: Address;
  readonly clock: Clock;
  readonly version: QemuVersionTriple;
  /** Returns what QEMU would, or a promise of it; throws or rejects with QmpRefusal. */
  readonly command: (name: string, args: QmpObject) => unknown;
}

/** A QMP monitor with QEMU's shapes (docs/interop/qmp-spec): greeting, negotiation, replies, events; one client. */
export class QmpServer {
  readonly #options: QmpServerOptions;
  #server: ChannelServer | null = null;
  #client: DuplexChannel | null = null;
  #negotiated = false;

  constructor(options: QmpServerOptions) {
    this.#options = options;
  }

  async open(): Promise<void> {
    const { transport, address } = this.#options;
    this.#server = await transport.listen(address, (channel) => this.#accept(channel));
  }

  event(name: string, data?: QmpObject): void {
    if (!this.#negotiated) return;
    const wallMs = this.#options.clock.wallMs();
    const timestamp = {
      seconds: Math.floor(wallMs / 1000),
      microseconds: Math.floor((wallMs % 1000) * 1000),
    };
    this.#send({ timestamp, event: name, ...(data === undefined ? {} : { data }) });
  }

  /** As a killed process does it: nothing is answered any more. */
  close(): void {
    void this.#server?.close();
    this.#server = null;
    this.#client?.destroy();
    this.#client = null;
    this.#negotiated = false;
  }

  #accept(channel: DuplexChannel): void {
    if (this.#client !== null) {
      channel.destroy(); // QEMU leaves a second client in the backlog; either way it is not served
      return;
    }
    this.#client = channel;
    const reader = new QmpLineReader(LINE_BYTES_MAX);
    channel.attach({
      data: (chunk) => {
        try {
          reader.push(chunk, (message) => this.#message(message));
        } catch {
          this.#error(undefined, 'JSON parse error', 'GenericError');
          channel.destroy();
        }
      },
      ended: () => channel.destroy(),
      drained: () => {},
      closed: () => {
        if (this.#client !== channel) return;
        this.#client = null;
        this.#negotiated = false;
      },
    });
    const { major, minor, micro } = this.#options.version;
    const version = { qemu: { micro, minor, major }, package: 'scripted' };
    this.#send({ QMP: { version, capabilities: ['oob'] } });
  }

  #message(message: QmpObject): void {
    const id = message.id;
    const name = message.execute ?? message['exec-oob'];
    if (typeof name !== 'string') {
      this.#error(id, "QMP input lacks member 'execute'", 'GenericError');
      return;
    }
    if (!this.#negotiated && name !== 'qmp_capabilities') {
      this.#error(
        id,
        "Expecting capabilities negotiation with 'qmp_capabilities' before command",
        'CommandNotFound',
      );
      return;
    }
    if (this.#negotiated && name === 'qmp_capabilities') {
      this.#error(
        id,
        "Capabilities negotiation is already complete, command 'qmp_capabilities' ignored",
        'CommandNotFound',
      );
      return;
    }
    if (name === 'qmp_capabilities') {
      this.#negotiated = true;
      this.#return(id, {});
      return;
    }
    void this.#execute(id, name, isObject(message.arguments) ? message.arguments : {});
  }

  async #execute(id: unknown, name: string, args: QmpObject): Promise<void> {
    try {
      this.#return(id, await this.#options.command(name, args));
    } catch (error) {
      if (!(error instanceof QmpRefusal)) throw error;
      this.#error(id, error.message, error.errorClass);
    }
  }

  #return(id: unknown, value: unknown): void {
    this.#send({ return: value, ...(id === undefined ? {} : { id }) });
  }

  #error(id: unknown, desc: string, errorClass: string): void {
    this.#send({ error: { class: errorClass, desc }, ...(id === undefined ? {} : { id }) });
  }

  #send(message: QmpObject): void {
    this.#client?.write(Buffer.from(`${JSON.stringify(message)}\r\n`));
  }
}
