import { chmod, chown, mkdir } from 'node:fs/promises';
import { asColoError } from '../errors.js';
import { groupId } from './accounts.js';

export interface RuntimeDirectoryOptions {
  readonly path: string;
  /** Permission bits. */
  readonly mode: number;
  readonly group?: string | number;
}

/**
 * Makes the directory where the pair's sockets live. One that exists is left as it is: QEMU's sockets may be in
 * it and its permissions are the operator's. It is never removed: QEMU's sockets outlive the proxy.
 * Throws COLO_ERR_RUNTIME_DIR.
 */
export async function makeRuntimeDirectory(options: RuntimeDirectoryOptions): Promise<void> {
  const { path, mode, group } = options;
  try {
    const made = await mkdir(path, { recursive: true });
    if (made === undefined) return;
    await chmod(path, mode); // mkdir's own mode is cut by the umask
    if (group !== undefined) await chown(path, -1, groupId(group));
  } catch (error) {
    const isRefused = (error as NodeJS.ErrnoException).code === 'EACCES';
    const where = isRefused ? `${path} (--runtime-directory DIR chooses another)` : path;
    throw asColoError(error, 'COLO_ERR_RUNTIME_DIR', where);
  }
}
