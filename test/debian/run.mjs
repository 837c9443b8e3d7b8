/**
 * The .deb as a user has it: installed by apt on a fresh Debian 13 with its dependencies from Debian alone, its unit
 * under a really running systemd: ready, reload, watchdog, death, stop, removal.
 *
 *   node test/debian/run.mjs
 *
 * The root (.cache/debian-13) is made once by debootstrap. Exit code 0: every check was met, or it cannot be done here
 * (said loudly); 1: a miss.
 */
import { spawn, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const DEBIAN = join(ROOT, '.cache', 'debian-13');
const MIRROR = 'http://deb.debian.org/debian';
const PACKAGES = 'systemd,systemd-sysv,dbus,ca-certificates,procps,iproute2,curl';
const BOOT_MS_MAX = 60_000;
const WATCHDOG_MS_MAX = 30_000;
const CONFIG = `primary: { link: "packet:tap0", createTap: true }
secondary: { link: "packet:tap1", createTap: true }
client: { link: "tap:colo0", bridge: br0 }
`;
/** A secret as systemd hands it over (docs/operating.md). */
const TOKEN = 'a-token-for-the-test';
const CREDENTIAL = '[Service]\nLoadCredential=token:/etc/colo-proxy/web.token\n';
const CREDENTIAL_FILE = '/run/credentials/colo-proxy@web.service/token';
/** QEMU without root: the proxy runs as its user, and the sockets are reachable (docs/operating.md). */
const SAME_USER = `[Service]
DynamicUser=no
User=vmuser
Group=vmuser
`;

let misses = 0;

function check(title, isMet, seen = '') {
  if (!isMet) misses++;
  console.log(`${isMet ? 'met ' : 'MISS'}  ${title}${seen === '' ? '' : `: ${seen}`}`);
}

function skip(reason) {
  console.log(`SKIPPED: the .deb was not installed: ${reason}`);
  process.exit(0);
}

function run(command, words, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, words, { encoding: 'utf8', ...options });
  return { status, out: (stdout ?? '').trim(), text: `${stdout ?? ''}${stderr ?? ''}`.trim(), error };
}

function must(command, words, options) {
  const { status, out, text, error } = run(command, words, options);
  if (status === 0) return out;
  throw new Error(
    `${command} ${words.join(' ')}: ${error?.message ?? `exit ${status}: ${text.slice(-600)}`}`,
  );
}

function makeRoot() {
  const marker = join(DEBIAN, 'etc', 'made-for-tests');
  if (existsSync(marker)) return;
  rmSync(DEBIAN, { recursive: true, force: true });
  mkdirSync(DEBIAN, { recursive: true });
  console.log('making a Debian 13 by debootstrap; this takes a minute');
  must('debootstrap', ['--variant=minbase', `--include=${PACKAGES}`, 'trixie', DEBIAN, MIRROR]);
  writeFileSync(marker, '');
}

function apt(...words) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };
  return run('chroot', [DEBIAN, 'apt-get', '-q', '-y', '--no-install-recommends', ...words], { env });
}

/** Resolves with a function that runs a shell command inside, and one that ends everything. */
async function boot() {
  const script = fileURLToPath(new URL('boot.sh', import.meta.url));
  const flags = ['--mount', '--pid', '--net', '--uts', '--ipc', '--cgroup', '--fork', '--kill-child'];
  const outer = spawn('unshare', [...flags, 'bash', script, DEBIAN], { stdio: 'ignore' });
  const end = () => {
    const pid = firstProcess(outer.pid);
    if (pid !== undefined) process.kill(pid, 'SIGKILL'); // PID 1 takes all of its namespace along
    outer.kill('SIGKILL');
  };
  const endMs = Date.now() + BOOT_MS_MAX;
  for (;;) {
    const pid = firstProcess(outer.pid);
    const inside = (command) => run('nsenter', ['-t', String(pid), '-a', 'sh', '-c', command]);
    if (pid !== undefined && /^(running|degraded)$/.test(inside('systemctl is-system-running').text)) {
      return { inside, end };
    }
    if (Date.now() > endMs) {
      end();
      throw new Error('systemd did not come up');
    }
    await sleep(250);
  }
}

function firstProcess(parent) {
  try {
    return Number(readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').split(' ')[0]) || undefined;
  } catch {
    return undefined;
  }
}

async function until(title, msMax, isSo) {
  const startedMs = Date.now();
  for (;;) {
    const seen = isSo();
    if (seen !== '')
      return check(title, true, `${seen} after ${((Date.now() - startedMs) / 1000).toFixed(1)} s`);
    if (Date.now() - startedMs > msMax) return check(title, false, `not within ${msMax / 1000} s`);
    await sleep(200);
  }
}

async function unit(inside) {
  const show = (name) => inside(`systemctl show --value -p ${name} colo-proxy@web`).text;
  inside('ip link set lo up; ip link add br0 type bridge; ip link set br0 up');
  writeFileSync(join(DEBIAN, 'etc/colo-proxy/web.yaml'), CONFIG);
  const checked = inside('colo-proxy check --quiet --config /etc/colo-proxy/web.yaml');
  check('check accepts the configuration', checked.status === 0, checked.text);

  // Type=notify: start returns when the proxy says that it is ready.
  const started = inside('systemctl start colo-proxy@web');
  const journal = () => inside('journalctl -q -n 4 -o cat -u colo-proxy@web').text;
  check(
    'starts, and says that it is ready',
    started.status === 0,
    started.status === 0 ? show('StatusText') : journal(),
  );
  const process = () => readProcess(inside, show('MainPID'));
  const { uid, capabilities, noNewPrivileges, seccomp } = process();
  check('a user of its own', uid > 60_000, `uid ${uid}`);
  check('CAP_NET_ADMIN and CAP_NET_RAW alone', capabilities === '0000000000003000', capabilities);
  check('no new privileges, a filter of system calls', noNewPrivileges === '1' && seccomp === '2');
  const status = inside('colo-proxy status --name web');
  check(
    'status over the control socket',
    status.text.startsWith('web: unprotected'),
    status.text.split('\n')[0],
  );
  check('health', inside('curl -s 127.0.0.1:9120/healthz').text === 'ok');
  check(
    'taps are made, the bridge is joined',
    inside('ip -br link show master br0').text.startsWith('colo0'),
  );

  inside("echo 'log: { level: debug }' >> /etc/colo-proxy/web.yaml");
  inside('systemctl reload colo-proxy@web');
  await until('reload', 5000, () => /1 changed/.exec(journal())?.[0] ?? '');

  const restarts = () => Number(show('NRestarts'));
  const isBack = (count) => (restarts() === count && show('ActiveState') === 'active' ? 'back' : '');
  inside(`kill -9 ${show('MainPID')}`);
  await until('killed, it is started again', 15_000, () => isBack(1));
  inside(`kill -STOP ${show('MainPID')}`);
  await until('hung, the watchdog starts it again', WATCHDOG_MS_MAX, () => isBack(2));
  await until('the journal says why', 5000, () =>
    inside('journalctl -q -o cat -u colo-proxy@web').text.includes('Watchdog timeout')
      ? 'watchdog timeout'
      : '',
  );

  const stopped = inside('systemctl stop colo-proxy@web');
  check('stops cleanly', stopped.status === 0 && show('Result') === 'success', show('Result'));
  const left = inside('ls /run/colo-proxy/web/').text;
  check("the runtime directory stays: QEMU's sockets live there", left.includes('state.json'), left);
  check('its taps are gone', !/tap0|tap1|colo0/.test(inside('ip -br link').text));
  const security = inside('systemd-analyze security --no-pager colo-proxy@web').text;
  const level = Number(/exposure level.*: ([\d.]+)/.exec(security)?.[1]);
  check('systemd-analyze security', level < 3, String(level));

  inside('useradd --system vmuser; mkdir -p /etc/systemd/system/colo-proxy@web.service.d');
  writeFileSync(join(DEBIAN, 'etc/colo-proxy/web.token'), `${TOKEN}\n`, { mode: 0o600 });
  writeFileSync(join(DEBIAN, 'etc/systemd/system/colo-proxy@web.service.d/token.conf'), CREDENTIAL);
  inside(`echo 'http: { tokenFile: ${CREDENTIAL_FILE} }' >> /etc/colo-proxy/web.yaml`);
  inside('systemctl daemon-reload; systemctl start colo-proxy@web');
  const post = (header) =>
    inside(`curl -s -o /dev/null -w '%{http_code}' -X POST -H '${header}' 127.0.0.1:9120/api/checkpoint`)
      .text;
  const codes = [post('x: y'), post(`authorization: Bearer ${TOKEN}`)].join(' ');
  check(
    'a token that only root can read: 401 without it, 409 (no pair yet) with it',
    codes === '401 409',
    codes,
  );
  check('the log has no secret', !inside('journalctl -q -o cat -u colo-proxy@web').text.includes(TOKEN));
  inside('systemctl stop colo-proxy@web');

  writeFileSync(join(DEBIAN, 'etc/systemd/system/colo-proxy@web.service.d/user.conf'), SAME_USER);
  inside(
    'rm -rf /run/colo-proxy /run/private/colo-proxy; systemctl daemon-reload; systemctl start colo-proxy@web',
  );
  const reached = inside(
    'su -s /bin/sh vmuser -c "test -w /run/colo-proxy/web/migrate.sock && echo reached"',
  );
  check("with QEMU's user, QEMU reaches the sockets", reached.text === 'reached', reached.text || journal());
  inside(
    'systemctl stop colo-proxy@web; rm -r /etc/systemd/system/colo-proxy@web.service.d; systemctl daemon-reload',
  );
}

function readProcess(inside, pid) {
  const text = inside(`cat /proc/${pid}/status`).text;
  const field = (name) => new RegExp(`^${name}:\\s+(\\S+)`, 'm').exec(text)?.[1];
  return {
    uid: Number(field('Uid')),
    capabilities: field('CapPrm'),
    noNewPrivileges: field('NoNewPrivs'),
    seccomp: field('Seccomp'),
  };
}

async function main() {
  if (process.getuid() !== 0) skip('it needs root');
  if (run('debootstrap', ['--version']).error) skip('debootstrap is not installed');
  makeRoot();
  const file = must(process.execPath, [join(ROOT, 'packaging', 'deb.mjs')], { cwd: ROOT })
    .split('\n')
    .at(-1);
  for (const old of readdirSync(join(DEBIAN, 'srv')).filter((name) => name.endsWith('.deb'))) {
    rmSync(join(DEBIAN, 'srv', old));
  }
  copyFileSync(file, join(DEBIAN, 'srv', basename(file)));
  if (apt('update').status !== 0) skip('no Debian mirror can be reached');
  apt('purge', 'colo-proxy');
  const installed = apt('install', `/srv/${basename(file)}`);
  const packages = run('chroot', [DEBIAN, 'dpkg-query', '-W', 'colo-proxy', 'nodejs', 'nftables']).text;
  check(
    'apt installs it, with Node.js and nftables from Debian',
    installed.status === 0,
    installed.status === 0
      ? packages.replaceAll('\n', ', ').replaceAll('\t', ' ')
      : installed.text.slice(-300),
  );
  const node = run('chroot', [DEBIAN, 'node', '--version']).text;
  const version = run('chroot', [DEBIAN, 'colo-proxy', 'version']).text;
  check('it runs under that Node.js', /^\d+\.\d+\.\d+$/.test(version), `${version} under ${node}`);
  const demo = run('chroot', [DEBIAN, 'colo-proxy', 'demo', '--once', '--http', 'off'], { timeout: 120_000 });
  check('its demo ends well', demo.status === 0, demo.text.split('\n').at(-1));

  const { inside, end } = await boot();
  try {
    await unit(inside);
    inside('systemctl start colo-proxy@web');
    const removed = inside('DEBIAN_FRONTEND=noninteractive apt-get -y purge colo-proxy');
    check('apt purges it, and stops it first', removed.status === 0 && inside('pgrep -x node').text === '');
    check(
      'nothing of it is left',
      inside('ls -d /usr/lib/colo-proxy /usr/bin/colo-proxy 2>/dev/null').text === '',
    );
  } finally {
    end();
  }
  console.log(`${misses} missed`);
  return misses === 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
