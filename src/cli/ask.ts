/** Reads what a running proxy tells: over its control socket, or over an admin address that is named. */
import { type IncomingMessage, type RequestOptions, request } from 'node:http';
import type { Config } from '../config/derive.js';
import { ColoError } from '../errors.js';
import { controlSocket } from './control.js';

const ANSWER_MS_MAX = 5000;
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;

/** Where a running proxy can be asked. */
export type ProxyAddress = Pick<RequestOptions, 'socketPath' | 'host' | 'port'>;

/** `url`: `http://HOST:PORT` or `unix:PATH`; the control socket of the configuration unless given. */
export function proxyAddress(config: () => Config, url: string | undefined): ProxyAddress {
  if (url === undefined) return { socketPath: controlSocket(config()) };
  if (url.startsWith('unix:')) return { socketPath: url.slice('unix:'.length) };
  if (!URL.canParse(url) || !url.startsWith('http:')) {
    throw new ColoError('COLO_ERR_USAGE', `--url ${url}: expected http://HOST:PORT or unix:PATH`);
  }
  const { hostname, port } = new URL(url);
  return { host: hostname.replace(/^\[(.*)\]$/, '$1'), port: port === '' ? 80 : Number(port) };
}

/** The JSON at `path`. Rejects with COLO_ERR_CONTROL. */
export async function askProxy<Answer>(address: ProxyAddress, path: string): Promise<Answer> {
  const where = address.socketPath ?? `${address.host}:${address.port}`;
  const problem = (what: string): ColoError =>
    new ColoError('COLO_ERR_CONTROL', `${where}: ${what}; is the proxy running, under this --name or --url?`);
  const text = await new Promise<string>((resolve, reject) => {
    const asking = request({ ...address, path, timeout: ANSWER_MS_MAX }, (response: IncomingMessage) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes > ANSWER_BYTES_MAX) response.destroy(new Error('the answer has no end'));
      });
      response.on('error', (error) => reject(problem(error.message)));
      response.on('end', () => {
        const body = Buffer.concat(chunks).toString();
        if (response.statusCode === 200) resolve(body);
        else reject(problem(`${path} answered ${response.statusCode}`));
      });
    });
    asking.on('timeout', () => asking.destroy(new Error(`no answer within ${ANSWER_MS_MAX} ms`)));
    asking.on('error', (error: NodeJS.ErrnoException) => reject(problem(error.code ?? error.message)));
    asking.end();
  });
  try {
    return JSON.parse(text) as Answer;
  } catch {
    throw problem('the answer is not JSON');
  }
}
