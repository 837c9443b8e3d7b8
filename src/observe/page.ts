/** The status page's files, read once at start: everything comes from here, nothing from the network. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

export interface Asset {
  readonly type: string;
  readonly body: string;
}

/** Beside src/ and dist/ alike. */
const FOLDER = new URL('../../assets/status/', import.meta.url);

const OWN_FILES: readonly (readonly [path: string, file: string, type: string])[] = [
  ['/', 'index.html', 'text/html; charset=utf-8'],
  ['/page.css', 'page.css', 'text/css; charset=utf-8'],
  ['/page.js', 'page.js', 'text/javascript; charset=utf-8'],
  ['/charts.js', 'charts.js', 'text/javascript; charset=utf-8'],
];

/** By path of the request. */
export function loadPage(): ReadonlyMap<string, Asset> {
  const chartLibrary = createRequire(import.meta.url).resolve('uplot/dist/uPlot.iife.min.js');
  return new Map([
    ...OWN_FILES.map(
      ([path, file, type]) => [path, { type, body: readFileSync(new URL(file, FOLDER), 'utf8') }] as const,
    ),
    [
      '/uplot.js',
      { type: 'text/javascript; charset=utf-8', body: readFileSync(chartLibrary, 'utf8') },
    ] as const,
    [
      '/uplot.css',
      {
        type: 'text/css; charset=utf-8',
        body: readFileSync(chartLibrary.replace('uPlot.iife.min.js', 'uPlot.min.css'), 'utf8'),
      },
    ] as const,
  ]);
}

/** The page runs its own scripts and speaks to its own address only. */
export const PAGE_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src data:; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
