/** One run's place: a folder for logs, a short one for sockets, and what must be undone at its end, last made first. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { RUNS } from './paths.mjs';

const KEPT_RUNS = 10;
/** A tmpfs, as /run is. */
const MEMORY = '/dev/shm';

export class RunFolder {
  #undo = [];
  #rigs = 0;

  constructor() {
    this.id = process.pid.toString(36);
    fs.mkdirSync(RUNS, { recursive: true });
    forgetOldRuns();
    this.root = fs.mkdtempSync(path.join(RUNS, `${new Date().toISOString().replace(/[:.]/g, '-')}-`));
  }

  /** A folder for one rig's logs and one for what lies under /run: sockets (107 bytes a path at most), the proxy's state. */
  newFolders(name) {
    const logs = path.join(this.root, `${++this.#rigs}-${name}`);
    fs.mkdirSync(logs);
    const sockets = fs.mkdtempSync(path.join(fs.existsSync(MEMORY) ? MEMORY : os.tmpdir(), 'colo-lab-'));
    return { logs, sockets };
  }

  /** @param {() => Promise<void> | void} action done at the end, whatever happens */
  atEnd(action) {
    this.#undo.push(action);
  }

  async end() {
    for (const action of this.#undo.splice(0).reverse()) {
      await Promise.resolve(action()).catch((error) => console.error(`cleaning up: ${error.message}`));
    }
  }
}

function forgetOldRuns() {
  const old = fs.readdirSync(RUNS).sort().slice(0, -KEPT_RUNS);
  for (const name of old) fs.rmSync(path.join(RUNS, name), { recursive: true, force: true });
}
