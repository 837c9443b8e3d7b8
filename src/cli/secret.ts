import { readFileSync } from 'node:fs';
import { ColoError } from '../errors.js';

const SECRET_BYTES_MAX = 4096;

/** The first line of a file that holds a secret. Its content is never shown. Throws COLO_ERR_CONFIG. */
export function readSecret(path: string, key: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new ColoError('COLO_ERR_CONFIG', `${key}: ${path}: cannot be read: ${code}`, { cause: error });
  }
  const secret = text.slice(0, SECRET_BYTES_MAX).split('\n')[0]!.trim();
  if (secret.length < 16) {
    throw new ColoError(
      'COLO_ERR_CONFIG',
      `${key}: ${path}: its first line must have at least 16 characters`,
    );
  }
  return secret;
}
