/** Asks a running proxy to do something, over the control socket in its runtime directory. */
import { request } from 'node:http';
import type { Config } from '../config/derive.js';
import { ColoError, ERROR_CODES, type ErrorCode } from '../errors.js';

/** Longer than all phases of a checkpoint together. */
const ANSWER_MS_MAX = 120_000;
const ANSWER_BYTES_MAX = 1024 * 1024;

/** The proxy's own socket; who may open it may command. */
export function controlSocket(config: Config): string {
  return `${config.runtime.directory}/control.sock`;
}

/** Resolves with the answer. Rejects with the proxy's own ColoError, or COLO_ERR_CONTROL when nobody answers. */
export async function control(
  config: Config,
  verb: string,
  args: Readonly<Record<string, string>>,
): Promise<Readonly<Record<string, unknown>>> {
  const path = controlSocket(config);
  const query = new URLSearchParams(args).toString();
  const { code, text } = await post(path, `/api/${verb}${query === '' ? '' : `?${query}`}`);
  const answer = parsed(text);
  if (code === 200) return answer;
  const known = typeof answer.code === 'string' && answer.code in ERROR_CODES;
  const message = typeof answer.message === 'string' ? answer.message : `${path} answered ${code}: ${text}`;
  throw new ColoError(known ? (answer.code as ErrorCode) : 'COLO_ERR_CONTROL', message);
}

function post(socketPath: string, path: string): Promise<{ code: number; text: string }> {
  return new Promise((resolve, reject) => {
    const failed = (cause: NodeJS.ErrnoException): void => {
      const cure = 'is the proxy running, under this --name or --runtime-directory?';
      reject(
        new ColoError('COLO_ERR_CONTROL', `${socketPath}: ${cause.code ?? cause.message}; ${cure}`, {
          cause,
        }),
      );
    };
    const asking = request({ socketPath, path, method: 'POST', timeout: ANSWER_MS_MAX }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > ANSWER_BYTES_MAX) response.destroy(new Error('the answer has no end'));
      });
      response.on('error', failed);
      response.on('end', () => resolve({ code: response.statusCode ?? 0, text: text.trim() }));
    });
    asking.on('timeout', () => asking.destroy(new Error(`no answer within ${ANSWER_MS_MAX} ms`)));
    asking.on('error', failed);
    asking.end();
  });
}

function parsed(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // said below
  }
  throw new ColoError('COLO_ERR_CONTROL', `the answer is not JSON: ${text.slice(0, 200)}`);
}
