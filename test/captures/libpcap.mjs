/** What libpcap makes of a capture, by way of tcpdump. */
import { spawnSync } from 'node:child_process';

const TCPDUMP_MS_MAX = 60_000;

let isInstalled;

export function hasLibpcap() {
  isInstalled ??= spawnSync('tcpdump', ['--version']).error === undefined;
  return isInstalled;
}

/**
 * @returns {{refusal?: string, frames: number}} why libpcap refuses the file, or how many frames it reads before the
 *   file ends or breaks; no refusal and 0 frames without tcpdump.
 */
export function readByLibpcap(path) {
  if (!hasLibpcap()) return { frames: 0 };
  // as the user that we are: by itself tcpdump becomes one who may not read the file
  const user = process.getuid() === 0 ? ['-Z', 'root'] : [];
  const { stdout, stderr } = spawnSync('tcpdump', [...user, '-n', '-t', '-q', '-r', path, '-w', '-'], {
    timeout: TCPDUMP_MS_MAX,
    maxBuffer: 2 ** 31,
  });
  const said = stderr.toString();
  // it says so once the file header has been understood
  if (!/^reading from file /m.test(said)) return { refusal: `libpcap: ${lastLine(said)}`, frames: 0 };
  return { frames: framesIn(stdout) };
}

function lastLine(text) {
  return text
    .trim()
    .split('\n')
    .at(-1)
    .replace(/^tcpdump: /, '');
}

/** In a capture that tcpdump has written: in this machine's byte order, with a header of 24 bytes, 16 for each frame. */
function framesIn(capture) {
  let frames = 0;
  for (let at = 24; at + 16 <= capture.length; at += 16 + capture.readUInt32LE(at + 8)) frames++;
  return frames;
}
