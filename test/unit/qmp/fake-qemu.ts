/** A QMP monitor for tests: greets, accepts capabilities, answers as it is told. */
import type { DuplexChannel } from '../../../src/system/channel.js';

export interface Command {
  readonly id?: string;
  readonly execute?: string;
  readonly 'exec-oob'?: string;
  readonly arguments?: Record<string, unknown>;
}

export const GREETING = {
  QMP: {
    version: { qemu: { micro: 22, minor: 2, major: 7 }, package: 'Debian 1:7.2' },
    capabilities: ['oob'],
  },
};

export class FakeMonitor {
  readonly channel: DuplexChannel;
  readonly commands: Command[] = [];
  closed = false;
  /** What to answer a command with; undefined: nothing. `qmp_capabilities` is accepted by itself. */
  answer: (command: Command) => object | undefined = () => ({ return: {} });
  #text = '';

  constructor(channel: DuplexChannel, greeting: object | null = GREETING) {
    this.channel = channel;
    channel.attach({
      data: (chunk) => this.#data(chunk),
      ended: () => this.channel.end(),
      drained: () => undefined,
      closed: () => {
        this.closed = true;
      },
    });
    if (greeting !== null) this.say(greeting);
  }

  say(message: object): void {
    this.raw(`${JSON.stringify(message)}\r\n`);
  }

  raw(text: string): void {
    this.channel.write(Buffer.from(text));
  }

  #data(chunk: Buffer): void {
    this.#text += chunk.toString();
    for (let end = this.#text.indexOf('\n'); end !== -1; end = this.#text.indexOf('\n')) {
      const command = JSON.parse(this.#text.slice(0, end)) as Command;
      this.#text = this.#text.slice(end + 1);
      this.commands.push(command);
      const answer = command.execute === 'qmp_capabilities' ? { return: {} } : this.answer(command);
      if (answer !== undefined) this.say({ ...answer, id: command.id });
    }
  }
}
