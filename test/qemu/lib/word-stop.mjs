/** Stops the proxy under test at a sync-point: the other end of shim/hold-words.mjs. */
import net from 'node:net';

const HELD_MS_MAX = 20_000;

export const WORDS = [
  'checkpoint-request',
  'checkpoint-reply',
  'vmstate-send',
  'vmstate-received',
  'vmstate-loaded',
];

export class WordStop {
  /** @type {Promise<string>} once the word is stopped: the coordinator's phase */
  held;
  #socket;

  /**
   * From now on the next such word will be stopped.
   * @param {string} path of the hook's socket
   * @param {string} word
   * @param {'before' | 'after'} when the proxy has done what belongs to the word
   */
  static async arm(path, word, when) {
    const socket = net.connect(path);
    await new Promise((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    return new WordStop(socket, word, when);
  }

  constructor(socket, word, when) {
    this.#socket = socket;
    socket.setEncoding('latin1');
    socket.on('error', () => {}); // the proxy was killed
    this.held = new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`${word} did not come within ${HELD_MS_MAX} ms`)),
        HELD_MS_MAX,
      );
      socket.once('data', (line) => {
        clearTimeout(timer);
        resolve(line.trim().split(' ')[2]);
      });
      socket.once('close', () => {
        clearTimeout(timer);
        reject(new Error(`the proxy ended before ${word} came`));
      });
    });
    this.held.catch(() => {});
    socket.write(`hold ${word} ${when}\n`);
  }

  /** The word goes on its way. */
  pass() {
    this.#socket.end('go\n');
  }
}
