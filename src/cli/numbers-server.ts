/** GET /metrics and /healthz for a command that has a few plain numbers to show and no pair. */
import { createServer, type Server } from 'node:http';
import { ColoError } from '../errors.js';
import { listenOptions } from '../observe/listen-address.js';

const CONNECTIONS_MAX = 16;

/** `numbers`: by metric name; `_total` makes it a counter. Rejects with COLO_ERR_HTTP_LISTEN. */
export async function openNumbersServer(
  address: string,
  numbers: () => Readonly<Record<string, number>>,
): Promise<Server> {
  const server = createServer({ requestTimeout: 5000, maxHeaderSize: 8192 }, (request, response) => {
    const body =
      request.url === '/metrics' ? exposition(numbers()) : request.url === '/healthz' ? 'ok\n' : null;
    response.writeHead(body === null ? 404 : 200, { 'content-type': 'text/plain; version=0.0.4' });
    response.end(body ?? 'there are /metrics and /healthz\n');
  });
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(new ColoError('COLO_ERR_HTTP_LISTEN', `${address}: ${cause.code}`, { cause })),
    );
    server.listen(listenOptions(address), resolve);
  });
  return server;
}

function exposition(numbers: Readonly<Record<string, number>>): string {
  return Object.entries(numbers)
    .map(
      ([name, value]) =>
        `# TYPE ${name} ${name.endsWith('_total') ? 'counter' : 'gauge'}\n${name} ${value}\n`,
    )
    .join('');
}
