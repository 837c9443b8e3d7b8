import { spawn } from 'node:child_process';
import { ColoError } from '../errors.js';

/** `nft` answers in milliseconds; a hanging one is given up. */
const NFT_MS_MAX = 10_000;

/**
 * Keeps the host's own stack off a VM's interface. Without it the host answers the VM's ARP requests for any
 * address it owns (weak host model) and forwards what it likes, past the proxy. An nftables ingress chain that
 * drops everything stops that; AF_PACKET sockets still see every frame, because they come before it
 * (net/core/dev.c, __netif_receive_skb_core). One table per instance and interface, so that several proxies
 * coexist and one that was killed finds its own again.
 */
export class HostIsolation {
  readonly #interface: string;
  readonly #table: string;
  readonly #program: string;

  /** @param program the nft program, by name or path */
  constructor(instance: string, interfaceName: string, program = 'nft') {
    this.#program = program;
    this.#interface = interfaceName;
    this.#table = `colo-proxy_${plain(instance)}_${plain(interfaceName)}`;
  }

  /** Puts the rule in place, replacing one that is there. Throws COLO_ERR_TAP_ISOLATE. */
  async apply(): Promise<void> {
    if (/["\\]/.test(this.#interface)) throw this.#failed('its name cannot be written in an nftables rule');
    const { exitCode, output } = await this.#nft(
      [
        `add table netdev ${this.#table}`,
        `delete table netdev ${this.#table}`,
        `table netdev ${this.#table} {`,
        `  chain host { type filter hook ingress device "${this.#interface}" priority -500; policy drop; }`,
        '}',
      ].join('\n'),
    );
    if (exitCode !== 0) throw this.#failed(`nft: ${output.trim()}`);
  }

  /** Takes the rule away; the kernel may have done so already together with the interface. */
  async remove(): Promise<void> {
    const { exitCode, output } = await this.#nft(
      `add table netdev ${this.#table}\ndelete table netdev ${this.#table}`,
    );
    if (exitCode !== 0) throw this.#failed(`nft: ${output.trim()}`);
  }

  #failed(what: string, cause?: unknown): ColoError {
    return new ColoError(
      'COLO_ERR_TAP_ISOLATE',
      `the host's stack cannot be kept off ${this.#interface}: ${what} (--no-isolate leaves it to you)`,
      { cause },
    );
  }

  #nft(script: string): Promise<{ exitCode: number | null; output: string }> {
    return new Promise((resolve, reject) => {
      const nft = spawn(this.#program, ['-f', '-'], {
        env: { PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' },
        stdio: ['pipe', 'pipe', 'pipe'],
        timeout: NFT_MS_MAX,
      });
      let output = '';
      const collect = (bytes: Buffer): void => {
        output = (output + bytes.toString('utf8')).slice(0, 2000);
      };
      nft.stdout.on('data', collect);
      nft.stderr.on('data', collect);
      nft.on('error', (error: NodeJS.ErrnoException) => {
        const missing = 'the nft program is missing: install the Debian package nftables';
        reject(this.#failed(error.code === 'ENOENT' ? missing : error.message, error));
      });
      nft.on('close', (exitCode) => resolve({ exitCode, output }));
      nft.stdin.on('error', () => {}); // an nft that ended early says why on stderr
      nft.stdin.end(`${script}\n`);
    });
  }
}

/** Letters, digits and hyphens as they are, anything else as _hex: what an nftables identifier can hold. */
function plain(name: string): string {
  return name.replace(/[^A-Za-z0-9-]/gu, (character) => `_${character.codePointAt(0)!.toString(16)}`);
}
