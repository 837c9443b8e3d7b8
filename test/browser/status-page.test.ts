/** The status page in a real browser: content, live update, a divergence, a failover, no errors. Screenshots are kept. */
import { existsSync, mkdirSync } from 'node:fs';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ExplainedDivergence } from '../../src/evidence/evidence-log.js';
import { AdminServer } from '../../src/observe/http.js';
import type { PairStatus } from '../../src/pair/status.js';
import { silentLog } from '../../src/system/log.js';
import { ManualClock } from '../../src/system/manual-clock.js';
import { sampleStatus } from '../unit/observe/sample-status.js';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const SCREENSHOTS = 'test-output/screenshots';
const TOKEN = 'a-token-for-the-test';

let browser: Browser;
let page: Page;
let server: AdminServer;
let clock: ManualClock;
let status: PairStatus;
let divergences: ExplainedDivergence[];
let acted: string[];
let errors: string[];

const divergence: ExplainedDivergence = {
  id: 41,
  wallMs: 1_700_000_000_000,
  reason: 'payload',
  flow: 'tcp 10.0.0.2:80 > 10.0.0.1:40000',
  offset: 17,
  summary: 'HTTP header Date: the bytes differ (tcp 10.0.0.2:80 > 10.0.0.1:40000 at byte 17)',
  field: 'HTTP header Date',
  advice: 'The clocks of the guests show different seconds. <img src=x onerror=alert(1)>',
  before: Buffer.from('Date: 00:00:0').toString('hex'),
  primary: Buffer.from('1 GMT').toString('hex'),
  secondary: Buffer.from('2 GMT').toString('hex'),
  file: 'divergence-1.pcapng',
};

/** Texts whose contrast against their ground is below 4.5 (3 for large ones): WCAG 2.2, success criterion 1.4.3. */
const FAINT_TEXTS = `(() => {
  const parsed = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = parsed(colour).slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if ((parsed(colour)[3] ?? 1) > 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const ownText = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim() !== '');
  return [...document.querySelectorAll('body *')]
    .filter((node) => ownText(node) && node.checkVisibility() && !node.closest('script, noscript'))
    .map((node) => {
      const style = getComputedStyle(node);
      const [light, dark] = [luminance(style.color), luminance(ground(node))].sort((a, b) => b - a);
      const px = parseFloat(style.fontSize);
      const isLarge = px >= 24 || (px >= 18.66 && Number(style.fontWeight) >= 700);
      return { text: node.textContent.trim().slice(0, 40), ratio: (light + 0.05) / (dark + 0.05), min: isLarge ? 3 : 4.5 };
    })
    .filter(({ ratio, min }) => ratio < min);
})()`;

/** Language, one first heading, no level left out, tables with heads, controls and images with names, ids once. */
const STRUCTURE_PROBLEMS = `(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const levels = all('h1, h2, h3, h4').map((one) => Number(one.tagName[1]));
  const ids = all('[id]').map(({ id }) => id);
  const named = (one) => (one.getAttribute('aria-labelledby') ?? '').split(' ').map((id) => document.getElementById(id)?.textContent ?? '').join('').trim() !== '';
  return [
    document.documentElement.lang === '' && 'no language',
    levels.filter((level) => level === 1).length !== 1 && 'not one first heading',
    levels.some((level, index) => index > 0 && level > levels[index - 1] + 1) && 'a heading level is left out',
    all('main').length !== 1 && 'not one main part',
    ...all('table').filter((one) => !one.closest('[role=img]') && one.querySelector('th[scope]') === null).map(() => 'a table without heads'),
    ...all('[role=img], [role=region], section').filter((one) => !named(one)).map((one) => 'no name: ' + one.id),
    ...all('button').filter((one) => one.textContent.trim() === '').map(() => 'a button without name'),
    ...all('input, progress').filter((one) => one.labels.length === 0).map((one) => 'no label: ' + one.id),
    ...ids.filter((id, index) => ids.indexOf(id) !== index).map((id) => 'id twice: ' + id),
  ].filter(Boolean);
})()`;

const isThere = existsSync(CHROMIUM);
if (!isThere) process.stderr.write(`SKIPPED: ${CHROMIUM} is not installed (apt-get install chromium)\n`);

describe.skipIf(!isThere)('status page in a browser', () => {
  beforeAll(async () => {
    mkdirSync(SCREENSHOTS, { recursive: true });
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] });
  });
  afterAll(() => browser?.close());
  afterEach(async () => {
    await page?.close();
    await server?.close();
  });

  async function open(options: Parameters<Browser['newPage']>[0] = {}): Promise<void> {
    clock = new ManualClock();
    status = sampleStatus({ flows: 2 });
    divergences = [];
    acted = [];
    errors = [];
    server = new AdminServer({
      listen: '127.0.0.1:0',
      status: () => status,
      divergences: () => divergences,
      flows: () => [{ flow: 'tcp 10.0.0.2:80 > 10.0.0.1:40000', heldBytes: 2048, idleMs: 12 }],
      log: silentLog,
      clock,
      build: { version: '1' },
      token: TOKEN,
      act: async (verb) => {
        acted.push(verb);
        return { epoch: 13 };
      },
    });
    await server.open();
    page = await browser.newPage(options);
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') errors.push(message.text());
    });
    page.on('pageerror', (error) => errors.push(String(error)));
    for (let second = 0; second < 120; second++) work(second);
    await page.goto(`${server.url()}/`);
    await page.getByText('live').waitFor();
  }

  /** A second of traffic. */
  function work(second: number): void {
    status = {
      ...status,
      epoch: status.epoch + 1,
      heldBytes: 20_000 + 15_000 * Math.sin(second / 9),
      bytesReleased: {
        ...status.bytesReleased,
        matched: status.bytesReleased.matched + 4_000_000 + second * 20_000,
      },
      checkpoints: {
        ...status.checkpoints,
        divergence: status.checkpoints.divergence + (second % 7 === 0 ? 2 : 0),
      },
    };
    clock.advance(1000);
  }

  it('shows who carries the traffic, figures, flows, histograms and charts', async () => {
    await open();
    await expect(page.locator('#state').textContent()).resolves.toBe('protected');
    await expect(page.locator('#carrier').textContent()).resolves.toContain(
      'The primary carries the traffic',
    );
    await expect(page.locator('#flows').textContent()).resolves.toContain(
      '10.0.0.2:80 > 10.0.0.1:400002.0 KiB12 ms',
    );
    await expect(page.locator('#pause tr').count()).resolves.toBe(4);
    await expect(page.locator('#pause caption').textContent()).resolves.toBe('mean 129 ms, 4 in all');
    await expect(page.locator('.chart canvas').count()).resolves.toBe(3);
    await page.locator('.chart .u-over').first().hover();
    await expect(page.locator('.chart .u-value').first().textContent()).resolves.toMatch(/^\d\d:\d\d:\d\d$/);
    await page.mouse.move(0, 0);
    await expect(page.title()).resolves.toBe('protected · web · colo-proxy');
    await page.screenshot({ path: `${SCREENSHOTS}/light.png`, fullPage: true });
    expect(errors).toEqual([]);
  });

  it('is updated live: a divergence appears with both sides, then a failover', async () => {
    await open({ colorScheme: 'dark' });
    divergences = [divergence];
    clock.advance(1000);
    await page.getByText('#41 HTTP header Date').click();
    const details = page.locator('#divergences pre');
    await expect(details.locator('mark').allTextContents()).resolves.toEqual(['1 GMT', '2 GMT']);
    await expect(page.locator('#divergences img').count()).resolves.toBe(0);
    status = sampleStatus({
      ...status,
      state: 'failed-over',
      carrier: 'secondary',
      failovers: { 'primary-lost': 2, 'secondary-lost': 0 },
    });
    clock.advance(1000);
    await page.getByText('failover: primary lost').waitFor();
    await expect(page.locator('#state').textContent()).resolves.toBe('failed over');
    await expect(details.isVisible()).resolves.toBe(true);
    await page.screenshot({ path: `${SCREENSHOTS}/dark-failed-over.png`, fullPage: true });
    expect(errors).toEqual([]);
  });

  it('shows how far the copy for a fresh secondary is, until it is there', async () => {
    await open();
    await expect(page.locator('#copy').isVisible()).resolves.toBe(false);
    const copy = {
      stage: 'memory',
      bytesDone: 512 * 1024 ** 2,
      bytesTotal: 2 * 1024 ** 3,
      msLeft: 12_400,
    } as const;
    status = { ...status, state: 'resyncing', copy };
    clock.advance(1000);
    await page.getByText('Copying the memory: 25 % of 2.0 GiB, about 13 s left').waitFor();
    await expect(page.getByRole('progressbar', { name: 'Copying the memory' }).count()).resolves.toBe(1);
    await page.screenshot({ path: `${SCREENSHOTS}/copying.png` });
    status = { ...status, state: 'protected', copy: null, carrier: 'none' };
    clock.advance(1000);
    await page.getByText('Nobody carries the traffic').waitFor();
    await expect(page.locator('#copy').isVisible()).resolves.toBe(false);
    expect(errors).toEqual([]);
  });

  it.each(['light', 'dark'] as const)(
    '%s: every text stands out (WCAG 2 AA), names and order are right',
    async (colorScheme) => {
      await open({ colorScheme });
      divergences = [divergence];
      status = {
        ...status,
        copy: { stage: 'disks', bytesDone: 1, bytesTotal: 2, msLeft: null },
        parts: [{ name: 'client link', ready: false, detail: 'tap:colo0 down' }],
      };
      clock.advance(1000);
      await page.getByText('#41 HTTP header Date').click();
      for (const state of ['protected', 'starting', 'failed-over'] as const) {
        status = { ...status, state };
        clock.advance(1000);
        await page.locator('#state', { hasText: state.replace('-', ' ') }).waitFor();
        expect(await page.evaluate(FAINT_TEXTS)).toEqual([]);
      }
      expect(await page.evaluate(STRUCTURE_PROBLEMS)).toEqual([]);
    },
  );

  it('asks for a checkpoint with the token, and says so without', async () => {
    await open();
    await page.getByRole('button', { name: 'Checkpoint now' }).click();
    await page.getByText('checkpoint was refused').waitFor();
    expect(acted).toEqual([]);
    await page.getByLabel('Token').fill(TOKEN);
    await page.keyboard.press('Enter');
    await page.getByText('checkpoint: done').waitFor();
    expect(acted).toEqual(['checkpoint']);
    expect(errors.filter((text) => !text.includes('401'))).toEqual([]);
  });

  it('fits a phone, and says when the proxy is gone', async () => {
    await open({ viewport: { width: 360, height: 740 }, hasTouch: true });
    const tooWide = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
    expect(tooWide).toBeLessThanOrEqual(0);
    await page.screenshot({ path: `${SCREENSHOTS}/phone.png` });
    await server.close();
    await page.getByText('connection lost').waitFor();
  });

  it('everything can be reached by keyboard and has a name', async () => {
    await open();
    const names: string[] = [];
    for (let step = 0; step < 8; step++) {
      await page.keyboard.press('Tab');
      names.push(
        String(
          await page.evaluate(
            'document.activeElement.labels?.[0]?.textContent || document.activeElement.getAttribute("aria-labelledby") || document.activeElement.textContent',
          ),
        ),
      );
    }
    expect(names.slice(0, 4)).toEqual(['Skip to content', 'Token', 'Checkpoint now', 'Switch over']);
    expect(names).toContain('flows-title');
    const unnamed = await page.evaluate(
      '[...document.querySelectorAll("button,input,table,section")].filter((one) => one.tagName === "SECTION" ? !document.getElementById(one.getAttribute("aria-labelledby")) : one.tagName === "INPUT" && one.labels.length === 0).length',
    );
    expect(unnamed).toBe(0);
  });
});
