import type { PairStatus, ProtectionState } from '../pair/status.js';
import type { Clock } from '../system/clock.js';
import { sleep } from '../system/clock.js';
import type { Client } from './client/client.js';
import type { Counter } from './client/line-tasks.js';
import type { ClientTask, TaskReport } from './client/task.js';
import { GUEST_HOST } from './stage.js';
import type { ScriptedVm } from './vm/scripted-vm.js';

/** One line of the summary: what was asked for and what came of it. */
export interface SceneResult {
  readonly scene: string;
  readonly reports: readonly TaskReport[];
  /** What was wrong beside the reports. */
  readonly problems: readonly string[];
}

/** What a story is played on: a stage of sockets or a world in memory. */
export interface Scenery {
  readonly client: Client;
  readonly primary: ScriptedVm;
  readonly secondary: ScriptedVm;
  openSecondary(): Promise<void>;
}

export interface StoryOptions {
  readonly stage: Scenery;
  readonly status: () => PairStatus;
  readonly clock: Clock;
  readonly say: (line: string) => void;
  /** How long people get to read a scene. */
  readonly readingMs: number;
}

/** Generous: a machine that is busy with other things makes the story slow, not wrong. */
const STATE_MS_MAX = 30_000;
const TASK_MS_MAX = 60_000;
const PROBES = { count: 50, everyMs: 4, answerMsMax: 10_000 };
/** The longest silence at a VM's death that still counts as uninterrupted service. */
const GAP_MS_MAX = 10_000;
const MIB = 1024 * 1024;
const POLL_MS = 2;

/** The life of a protected VM in a few scenes, told in plain words; every byte the client gets is checked. */
export class Story {
  readonly #options: StoryOptions;
  readonly results: SceneResult[] = [];

  constructor(options: StoryOptions) {
    this.#options = options;
  }

  async play(): Promise<SceneResult[]> {
    await this.#unprotected();
    await this.#protection('A second copy of the VM is started. It waits for the state of the first.');
    const { client } = this.#options.stage;
    const old = client.count(GUEST_HOST.ipv4, Number.POSITIVE_INFINITY, 25);
    await this.#traffic();
    await this.#divergence();
    await this.#secondaryDies();
    await this.#protection('A fresh second copy is started: protection is built anew, under traffic.');
    await this.#primaryDies(old);
    return this.results;
  }

  async #unprotected(): Promise<void> {
    this.#scene('1. One VM, not protected yet');
    this.#say('A VM offers files, an echo and a counter. Its traffic passes through the proxy unchanged.');
    const { client } = this.#options.stage;
    await this.#check('unprotected', [
      client.download(GUEST_HOST.ipv4, `first-${MIB / 4}.bin`),
      client.ping(GUEST_HOST.ipv4, { ...PROBES, count: 5 }),
    ]);
  }

  async #protection(opening: string): Promise<void> {
    const again = this.#status().lastCheckpoint !== null;
    this.#scene(again ? '6. Protected again' : '2. Protection begins');
    this.#say(opening);
    await this.#options.stage.openSecondary();
    const problem = await this.#reach('protected');
    if (problem === null) {
      this.#say(
        'Both copies now run side by side. The proxy gives every client frame to both and lets an answer',
      );
      this.#say(
        'out only when both have given it. Where they differ, it copies the state of the first over.',
      );
    }
    await this.#record(
      again ? 'protected again' : 'protection begins',
      [],
      problem === null ? [] : [problem],
    );
  }

  async #traffic(): Promise<void> {
    this.#scene('3. Clients at work');
    this.#say(
      'Downloads over IPv4 and IPv6, a counter, short connections, UDP echoes, ping, and a call by the guest.',
    );
    const { client } = this.#options.stage;
    const { ipv4, ipv6 } = GUEST_HOST;
    await this.#check('under protection', [
      client.download(ipv4, `a-${MIB}.bin`),
      client.download(ipv6, `b-${MIB}.bin`),
      client.count(ipv4, 100, 5),
      client.udpEcho(ipv4, PROBES),
      client.udpEcho(ipv6, PROBES),
      client.ping(ipv6, { ...PROBES, count: 20 }),
      client.shortConnections(ipv6, 40),
      client.callBack(ipv4),
    ]);
  }

  async #divergence(): Promise<void> {
    this.#scene('4. The copies disagree');
    this.#say('The client asks for a random number: the two copies cannot agree on it.');
    const { client, primary } = this.#options.stage;
    const problems: string[] = [];
    const reports: TaskReport[] = [];
    for (let round = 0; round < 3; round++) {
      const before = this.#checkpoints();
      const task = client.divergent(GUEST_HOST.ipv4, 'rand');
      reports.push(await this.#within(task));
      const own = primary.guest.stack.state.services.lastRandom;
      if (task.answer !== own)
        problems.push(`the client got ${task.answer}, the first copy said ${String(own)}`);
      if (this.#checkpoints() === before) problems.push('no checkpoint was taken for it');
    }
    const pauseMs = this.#status().lastCheckpoint?.pauseMs ?? 0;
    this.#say(
      `Each time the answer was held, the state copied (${pauseMs.toFixed(1)} ms of pause), and the first copy's answer sent.`,
    );
    await this.#record('divergent answers', reports, problems);
  }

  async #secondaryDies(): Promise<void> {
    this.#scene('5. The second copy is killed (as with kill -9), in the middle of a download');
    const { client, secondary } = this.#options.stage;
    const download = client.download(GUEST_HOST.ipv4, `c-${2 * MIB}.bin`);
    await this.#until(() => download.progress.bytes > MIB / 2);
    secondary.kill();
    const report = await this.#within(download);
    const problem = await this.#reach('failed-over');
    this.#say(
      `The first copy goes on alone. Longest silence seen by the client: ${report.gapMsMax.toFixed(0)} ms.`,
    );
    await this.#record('death of the secondary', [report], problem === null ? [] : [problem]);
  }

  async #primaryDies(old: Counter): Promise<void> {
    this.#scene('7. The first copy is killed, in the middle of a download');
    const { client, primary } = this.#options.stage;
    const problems: string[] = [];
    // A state that knows the old connection, then a connection that only the running copies know.
    const before = this.#checkpoints();
    await this.#within(client.divergent(GUEST_HOST.ipv4, 'rand'));
    await this.#until(() => this.#checkpoints() > before);
    const young = client.count(GUEST_HOST.ipv6, Number.POSITIVE_INFINITY, 25);
    await this.#until(() => young.progress.answers > 5);
    const download = client.download(GUEST_HOST.ipv4, `d-${4 * MIB}.bin`);
    await this.#until(() => download.progress.bytes > MIB);
    if (old.report !== null) problems.push('the old connection did not live to see it');
    const reached = [old.progress.answers, young.progress.answers];
    primary.kill();
    this.#say(
      `Killed with ${download.progress.bytes} of ${4 * MIB} bytes downloaded and two counters counting.`,
    );
    const problem = await this.#reach('failed-over');
    if (problem !== null) problems.push(problem);
    const downloaded = await this.#within(download);
    await this.#until(
      () => old.progress.answers > reached[0]! + 20 && young.progress.answers > reached[1]! + 20,
    );
    old.stop();
    young.stop();
    const reports = [downloaded, await this.#within(old), await this.#within(young)];
    const gapMs = Math.max(...reports.map((report) => report.gapMsMax));
    this.#say(
      `The second copy carries on: no connection broke, no byte was wrong, ${gapMs.toFixed(0)} ms of silence.`,
    );
    this.#say(`The counter opened before it all went on from ${reached[0]} to ${reports[1]!.answers}.`);
    if (gapMs > GAP_MS_MAX) problems.push(`${gapMs.toFixed(0)} ms of silence`);
    await this.#record('death of the primary', reports, problems);
    await this.#check('after failover', [
      client.download(GUEST_HOST.ipv6, `e-${MIB / 2}.bin`),
      client.count(GUEST_HOST.ipv4, 20, 2),
    ]);
  }

  /** Waits for the tasks and keeps what they report. */
  async #check(scene: string, tasks: ClientTask[]): Promise<void> {
    const reports = await Promise.all(tasks.map((task) => this.#within(task)));
    for (const { name, bytes, answers, lost, problem } of reports) {
      const outcome = problem ?? (lost > 0 ? `${lost} lost` : 'all right');
      const detail = answers > 1 ? `${answers} answers` : `${bytes} bytes`;
      this.#say(`  ${name.padEnd(22)} ${detail.padEnd(14)} ${outcome}`);
    }
    await this.#record(scene, reports, []);
  }

  async #record(scene: string, reports: TaskReport[], problems: string[]): Promise<void> {
    this.results.push({ scene, reports, problems });
    for (const problem of problems) this.#say(`  WRONG: ${problem}`);
    await sleep(this.#options.clock, this.#options.readingMs);
  }

  /** A task that does not end in time is wrong, not waited for. */
  async #within(task: ClientTask): Promise<TaskReport> {
    const late = sleep(this.#options.clock, TASK_MS_MAX).then(() => null);
    return (await Promise.race([task.done, late])) ?? unfinished(task);
  }

  async #reach(state: ProtectionState): Promise<string | null> {
    const reached = await this.#until(() => this.#status().state === state, STATE_MS_MAX);
    return reached ? null : `the proxy did not become ${state}: it is ${this.#status().state}`;
  }

  async #until(done: () => boolean, limitMs = TASK_MS_MAX): Promise<boolean> {
    const { clock } = this.#options;
    const endMs = clock.now() + limitMs;
    while (!done()) {
      if (clock.now() > endMs) return false;
      await sleep(clock, POLL_MS);
    }
    return true;
  }

  #status(): PairStatus {
    return this.#options.status();
  }

  #checkpoints(): number {
    return Object.values(this.#status().checkpoints).reduce((sum, count) => sum + count, 0);
  }

  #scene(title: string): void {
    this.#options.say('');
    this.#options.say(title);
  }

  #say(line: string): void {
    this.#options.say(`   ${line}`);
  }
}

function unfinished(task: ClientTask): TaskReport {
  const { bytes, answers } = task.progress;
  const problem = `not done after ${TASK_MS_MAX / 1000} s`;
  return { name: task.name, bytes, answers, lost: 0, gapMsMax: 0, durationMs: TASK_MS_MAX, problem };
}

/** True when nothing at all was wrong. */
export function allRight(results: readonly SceneResult[]): boolean {
  return results.every(
    ({ reports, problems }) =>
      problems.length === 0 && reports.every(({ problem, lost }) => problem === null && lost === 0),
  );
}

/** The summary as a table for people. */
export function summaryTable(results: readonly SceneResult[]): string[] {
  const rows = results.map(({ scene, reports, problems }) => {
    const wrong = [
      ...problems,
      ...reports.flatMap(({ name, problem }) => (problem === null ? [] : [`${name}: ${problem}`])),
    ];
    const lost = reports.reduce((sum, report) => sum + report.lost, 0);
    if (lost > 0) wrong.push(`${lost} datagrams lost`);
    const bytes = reports.reduce((sum, report) => sum + report.bytes, 0);
    const answers = reports.reduce((sum, report) => sum + report.answers, 0);
    const gapMs = Math.max(0, ...reports.map((report) => report.gapMsMax));
    return [scene, String(bytes), String(answers), `${gapMs.toFixed(0)} ms`, wrong.join('; ') || 'right'];
  });
  const lines = [['scene', 'bytes checked', 'answers', 'longest gap', 'result'], ...rows];
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  return lines.map((line) =>
    line
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
}
