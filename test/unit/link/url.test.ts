import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ColoError } from '../../../src/errors.js';
import { formatLinkUrl, parseLinkUrl } from '../../../src/link/url.js';

describe('link URLs', () => {
  it.each([
    ['packet:tap0', { kind: 'packet', interface: 'tap0' }],
    ['tap:colo0', { kind: 'tap', interface: 'colo0' }],
    ['tap:colo0,bridge=br0', { kind: 'tap', interface: 'colo0', bridge: 'br0' }],
    [
      'stream:unix:/run/a b.sock',
      { kind: 'stream', address: { family: 'unix', path: '/run/a b.sock' }, server: false },
    ],
    [
      'stream:unix:/run/x,server',
      { kind: 'stream', address: { family: 'unix', path: '/run/x' }, server: true },
    ],
    [
      'stream:tcp:host.example:9000',
      { kind: 'stream', address: { family: 'tcp', host: 'host.example', port: 9000 }, server: false },
    ],
    [
      'stream:tcp:[fe80::1%eth0]:1,server',
      { kind: 'stream', address: { family: 'tcp', host: 'fe80::1%eth0', port: 1 }, server: true },
    ],
    [
      'chardev:unix:/run/x,server,vnet',
      { kind: 'chardev', address: { family: 'unix', path: '/run/x' }, server: true, vnet: true },
    ],
    [
      'chardev:tcp:127.0.0.1:9003',
      {
        kind: 'chardev',
        address: { family: 'tcp', host: '127.0.0.1', port: 9003 },
        server: false,
        vnet: false,
      },
    ],
  ])('%s', (url, link) => {
    expect(parseLinkUrl(url)).toEqual(link);
    expect(formatLinkUrl(parseLinkUrl(url))).toBe(url);
  });

  it.each([
    ['', /unknown scheme ""/],
    ['tap0', /unknown scheme "tap0"/],
    ['socket:unix:/x', /unknown scheme/],
    ['chardev:unix:/x,vnt', /unknown option "vnt"; expected server or vnet/],
    ['chardev:/x', /expected chardev:unix:PATH/],
    ['stream:unix:/x,vnet', /unknown option "vnet"/],
    ['packet:', /not an interface name/],
    ['packet:sixteen-bytes-xx', /not an interface name/],
    ['packet:äöüäöüäö', /not an interface name/],
    ['packet:a/b', /not an interface name/],
    ['packet:a b', /not an interface name/],
    ['packet:a\0', /not an interface name/],
    ['packet:..', /not an interface name/],
    ['tap:x,master=br0', /unknown option "master=br0"/],
    ['tap:x,bridge=', /not an interface name/],
    ['tap:x,bridge=a,bridge=b', /twice/],
    ['stream:/run/x', /expected stream:unix:PATH/],
    ['stream:unix:', /path is empty/],
    ['stream:unix:/x,srver', /unknown option "srver"/],
    [`stream:unix:/${'x'.repeat(107)}`, /108 bytes/],
    ['stream:tcp:host', /HOST:PORT/],
    ['stream:tcp::80', /HOST:PORT/],
    ['stream:tcp:h:0', /HOST:PORT/],
    ['stream:tcp:h:65536', /HOST:PORT/],
    ['stream:tcp:::1:80', /HOST:PORT/],
    ['stream:tcp:h:80,client', /unknown option "client"/],
  ])('refuses %j', (url, message) => {
    expect(() => parseLinkUrl(url)).toThrow(message);
    expect(() => parseLinkUrl(url)).toThrow(expect.objectContaining({ code: 'COLO_ERR_LINK_URL' }));
  });

  it('answers any text with a link that formats to the same, or with its own error', () => {
    const text = fc.oneof(
      fc.string(),
      fc
        .tuple(
          fc.constantFrom('packet:', 'tap:', 'stream:unix:', 'stream:tcp:', 'stream:', 'chardev:unix:'),
          fc.string(),
        )
        .map((parts) => parts.join('')),
    );
    fc.assert(
      fc.property(text, (url) => {
        try {
          const link = parseLinkUrl(url);
          expect(parseLinkUrl(formatLinkUrl(link))).toEqual(link);
        } catch (error) {
          expect(error).toBeInstanceOf(ColoError);
        }
      }),
    );
  });
});
