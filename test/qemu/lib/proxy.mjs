/** The proxy under test, started as a user starts it: `colo-proxy --config FILE`. */
import fs from 'node:fs';
import path from 'node:path';
import { Child, SuccessorOfChild } from './child.mjs';
import { run, until } from './command.mjs';
import { Metrics } from './metrics.mjs';
import { BRIDGE, CLIENT_VETH, GUEST, SECOND } from './net.mjs';
import { LAB, PROXY } from './paths.mjs';
import { WordStop } from './word-stop.mjs';

const HTTP_LISTEN = '127.0.0.1:9120';

export class ProxyUnderTest {
  /**
   * @param {object} options
   * @param {'tap' | 'stream'} options.linkKind
   * @param {string} options.directory for configuration and log
   * @param {string} options.sockets
   * @param {string} options.namespace
   * @param {import('./agent.mjs').Agent} options.hostAgent asks its HTTP endpoints
   * @param {object} options.config parts of the configuration beside links and paths
   * @param {boolean} [options.holdWords] it can be stopped at a sync-point
   * @param {boolean} [options.twoNics] the VMs have two network interfaces
   */
  constructor({ linkKind, directory, sockets, namespace, hostAgent, config, holdWords = false, twoNics }) {
    this.configFile = path.join(directory, 'colo-proxy.yaml');
    this.logFile = path.join(directory, 'proxy.log');
    this.namespace = namespace;
    this.hostAgent = hostAgent;
    this.wordsSocket = holdWords ? path.join(sockets, 'words.sock') : undefined;
    fs.writeFileSync(this.configFile, JSON.stringify(configOf(linkKind, sockets, config, twoNics), null, 2));
  }

  start() {
    const { wordsSocket } = this;
    const hook = wordsSocket === undefined ? [] : ['--import', path.join(LAB, 'shim/hold-words.mjs')];
    if (wordsSocket !== undefined) fs.rmSync(wordsSocket, { force: true });
    const command = [
      ...['ip', 'netns', 'exec', this.namespace],
      ...['env', `COLO_TEST_WORDS_SOCKET=${wordsSocket ?? ''}`],
      ...[process.execPath, ...hook, PROXY, '--config', this.configFile],
    ];
    this.child = new Child('proxy', command, { logFile: this.logFile });
  }

  /**
   * @param {string} word of lib/word-stop.mjs
   * @param {'before' | 'after'} when
   */
  stopAt(word, when) {
    return WordStop.arm(this.wordsSocket, word, when);
  }

  /** Another process takes over (SIGUSR2). @returns {Promise<number>} its id */
  async hotRestart(msMax) {
    const old = this.child;
    old.kill('SIGUSR2');
    await until('the old process to end', msMax, () => {
      if (/this process goes on: /.test(this.logTail(5))) throw new Error(this.logTail(5));
      return !old.isRunning;
    });
    const [, pid] =
      /"successor":(\d+)/.exec(old.logText().split('"another process goes on"').at(-2).split('\n').at(-1)) ??
      [];
    this.child = new SuccessorOfChild(Number(pid), this.logFile);
    await until('metrics of the successor', msMax, () => this.metrics().catch(() => undefined));
    return Number(pid);
  }

  /** The QEMU arguments that the proxy itself proposes for its configuration. */
  async qemuArgs(role, version) {
    const args = [
      'qemu-args',
      role,
      '--config',
      this.configFile,
      '--mac',
      GUEST.mac,
      '--qemu-version',
      version,
    ];
    const text = await run(process.execPath, [PROXY, ...args]);
    return shellWords(text);
  }

  /** @returns {Promise<Metrics>} */
  async metrics() {
    const { status, text } = await this.hostAgent.do('get', { url: `http://${HTTP_LISTEN}/metrics` });
    if (status !== 200) throw new Error(`/metrics answers ${status}: ${text}`);
    return new Metrics(text);
  }

  /** A command of an operator, answered by the running proxy. */
  async control(words) {
    const command = [process.execPath, PROXY, ...words, '--config', this.configFile];
    return run('ip', ['netns', 'exec', this.namespace, ...command]);
  }

  async api(path) {
    return this.hostAgent.do('get', { url: `http://${HTTP_LISTEN}${path}` });
  }

  async readiness() {
    return this.hostAgent.do('get', { url: `http://${HTTP_LISTEN}/readyz` });
  }

  /** Waits until the metrics say so. */
  async until(what, msMax, accept) {
    let last;
    try {
      return await until(`the proxy: ${what}`, msMax, async () => {
        if (!this.child.isRunning)
          throw new Error(`the proxy ended with ${this.child.exitCode ?? this.child.signal}`);
        last = await this.metrics().catch(() => undefined);
        return last && accept(last) ? last : undefined;
      });
    } catch (error) {
      const state = last ? `${last.state}, epoch ${last.epoch}, carrier ${last.carrier}` : 'no metrics';
      throw new Error(`${error.message} (${state})\n${this.logTail()}`, { cause: error });
    }
  }

  logTail(lines = 12) {
    return this.child.logText().trim().split('\n').slice(-lines).join('\n');
  }

  async stop() {
    await this.child?.stop('SIGTERM', 10_000);
  }
}

function configOf(linkKind, sockets, config, twoNics) {
  const [primary, secondary, client] = linksOf(linkKind, sockets, '', BRIDGE, CLIENT_VETH);
  return {
    name: 'lab',
    primary: { link: primary, ...(linkKind === 'tap' ? { createTap: true } : {}) },
    secondary: { link: secondary, ...(linkKind === 'tap' ? { createTap: true } : {}) },
    client: { link: client, ...(linkKind === 'tap' ? { bridge: BRIDGE } : {}) },
    ...(twoNics ? { nics: [secondNic(linkKind, sockets)] } : {}),
    runtime: { directory: sockets },
    log: { level: 'debug', format: 'json' },
    ...config,
    http: { listen: HTTP_LISTEN },
  };
}

function secondNic(linkKind, sockets) {
  const [primary, secondary, client] = linksOf(linkKind, sockets, 'b', SECOND.bridge, SECOND.veth);
  return { primary, secondary, client, createTap: linkKind === 'tap' };
}

/** Of the VM on the seat `primary`, of the one on `secondary`, of the clients. */
function linksOf(linkKind, sockets, suffix, bridge, veth) {
  return linkKind === 'tap'
    ? [`packet:tap0${suffix}`, `packet:tap1${suffix}`, `tap:colo0${suffix},bridge=${bridge}`]
    : [
        `stream:unix:${sockets}/primary${suffix}.net`,
        `stream:unix:${sockets}/secondary${suffix}.net`,
        `packet:${veth}`,
      ];
}

/** Words as a POSIX shell would split them: quotes, backslashes at line ends. */
function shellWords(text) {
  const words = text.replaceAll('\\\n', ' ').match(/(?:[^\s'"]|'[^']*'|"[^"]*")+/g) ?? [];
  return words.map((word) => word.replace(/'([^']*)'|"([^"]*)"/g, '$1$2'));
}
