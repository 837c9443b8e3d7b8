import net from 'node:net';

const LINE_SERVICE_PORT = 8000;

/** A connection to the guest's line service: one request, one answer. */
export class LineConnection {
  #socket;
  #text = '';
  #waiting = [];
  #error;

  /** @returns {Promise<LineConnection>} */
  static async open(host, port = LINE_SERVICE_PORT, msMax = 30_000) {
    const connection = new LineConnection(net.connect({ host, port, noDelay: true }));
    await connection.#opened(msMax);
    return connection;
  }

  constructor(socket) {
    this.#socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (text) => this.#take(text));
    socket.on('error', (error) => this.#end(error));
    socket.on('close', () => this.#end(new Error('the connection closed')));
  }

  /** @returns {Promise<string>} the answer without its line end */
  ask(request, msMax = 30_000) {
    if (this.#error) return Promise.reject(this.#error);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => this.#end(new Error(`no answer to "${request}" within ${msMax} ms`)),
        msMax,
      );
      this.#waiting.push({ resolve, reject, timer });
      this.#socket.write(`${request}\n`);
    });
  }

  /** Adds one and gives the new value. */
  async increment(msMax) {
    const answer = await this.ask('inc', msMax);
    const value = Number(/^counter=(\d+)$/.exec(answer)?.[1] ?? Number.NaN);
    if (Number.isNaN(value)) throw new Error(`"${answer}" is no counter`);
    return value;
  }

  close() {
    this.#socket.destroy();
  }

  #opened(msMax) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#end(new Error('late'));
        reject(new Error(`no connection within ${msMax} ms`));
      }, msMax);
      this.#socket.once('connect', () => {
        clearTimeout(timer);
        resolve();
      });
      this.#socket.once('error', (error) => {
        clearTimeout(timer);
        reject(error);
      });
    });
  }

  #take(text) {
    this.#text += text;
    for (let end = this.#text.indexOf('\n'); end >= 0; end = this.#text.indexOf('\n')) {
      const line = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + 1);
      const waiting = this.#waiting.shift();
      if (!waiting) return this.#end(new Error(`unasked answer "${line}"`));
      clearTimeout(waiting.timer);
      waiting.resolve(line);
    }
  }

  #end(error) {
    this.#error ??= error;
    this.#socket.destroy();
    for (const { reject, timer } of this.#waiting.splice(0)) {
      clearTimeout(timer);
      reject(this.#error);
    }
  }
}
