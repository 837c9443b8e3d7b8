import { connect, createServer, type Server } from 'node:net';
import { ColoError } from '../errors.js';

/** How long the holder of a lock is given to say who it is. */
const HOLDER_ANSWER_MS_MAX = 200;

/**
 * One proxy per interface: an abstract unix socket named after it, which the kernel keeps per network namespace
 * and takes back when the process dies, however it dies (unix(7)).
 */
export class InterfaceLock {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Throws COLO_ERR_TAP_IN_USE, naming the holder, when another proxy serves the interface. */
  static async acquire(interfaceName: string, holder: string): Promise<InterfaceLock> {
    const path = `\0colo-proxy/${interfaceName}`;
    const server = createServer((socket) => {
      socket.on('error', () => socket.destroy());
      socket.end(`${holder} (pid ${process.pid})`);
    });
    server.unref();
    const problem = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
      server.once('error', resolve);
      server.listen({ path }, () => resolve(undefined));
    });
    if (!problem) return new InterfaceLock(server);
    if (problem.code !== 'EADDRINUSE') throw problem;
    throw new ColoError(
      'COLO_ERR_TAP_IN_USE',
      `interface ${interfaceName} is served by another proxy: ${await askHolder(path)}`,
    );
  }

  release(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
    });
  }
}

function askHolder(path: string): Promise<string> {
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect({ path });
    const done = (): void => {
      socket.destroy();
      resolve(answer.slice(0, 200) || 'its holder does not say who it is');
    };
    socket.setTimeout(HOLDER_ANSWER_MS_MAX, done);
    socket.on('data', (bytes) => {
      answer += bytes.toString('utf8');
      if (answer.length > 200) done();
    });
    socket.on('error', done);
    socket.on('end', done);
  });
}
