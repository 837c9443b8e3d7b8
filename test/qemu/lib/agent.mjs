/** The laboratory's end of client/agent.mjs. */
import path from 'node:path';
import { Child } from './child.mjs';
import { LAB } from './paths.mjs';

export class Agent {
  #child;
  #waiting = new Map();
  #nextId = 0;

  /** @param {string} namespace where its jobs run */
  constructor(name, namespace, directory) {
    const command = ['ip', 'netns', 'exec', namespace, process.execPath, path.join(LAB, 'client/agent.mjs')];
    this.#child = new Child(name, command, { logFile: path.join(directory, `${name}.log`), ipc: true });
    this.#child.process.on('message', ({ id, result, error }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    });
    this.#child.ended.then(() => {
      for (const { reject } of this.#waiting.values()) {
        reject(new Error(`${name} ended: ${this.#child.logText()}`));
      }
      this.#waiting.clear();
    });
  }

  /**
   * @param {keyof typeof import('../client/jobs.mjs').jobs} job
   * @param {object} [args]
   * @returns {Promise<any>}
   */
  do(job, args = {}) {
    const id = ++this.#nextId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.process.send({ id, job, args }, (error) => error && reject(error));
    });
  }

  stop() {
    return this.#child.stop();
  }
}
