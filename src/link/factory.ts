import type { Link } from './link.js';
import { DEFAULT_LINK_OPTIONS, FRAME_OVERHEAD_BYTES, type LinkOptions } from './options.js';
import { PacketLink } from './packet-link.js';
import { StreamLink } from './stream-link.js';
import { TapLink } from './tap-link.js';
import type { TapSetupOptions } from './tap-setup.js';
import { type LinkUrl, parseLinkUrl } from './url.js';

export interface LinkRole {
  /**
   * The interface of a `packet:` link is a VM's: it is made the proxy's alone before it is used
   * (`--primary-tap`), and undone afterwards. Absent: the interface is used as it is.
   */
  readonly vmInterface?: Omit<TapSetupOptions, 'interface' | 'mtuBytes'>;
}

/** Makes a link from its URL; nothing is opened yet. Throws COLO_ERR_LINK_URL. */
export function createLink(
  url: string | LinkUrl,
  options: Partial<LinkOptions> = {},
  role: LinkRole = {},
): Link {
  const parsed = typeof url === 'string' ? parseLinkUrl(url) : url;
  const complete = { ...DEFAULT_LINK_OPTIONS, ...options };
  switch (parsed.kind) {
    case 'packet':
      return new PacketLink(parsed.interface, complete, tapSetup(parsed.interface, complete, role));
    case 'tap':
      return new TapLink(parsed, complete);
    case 'stream':
    case 'chardev':
      return new StreamLink(parsed, complete);
  }
}

function tapSetup(name: string, options: LinkOptions, role: LinkRole): TapSetupOptions | undefined {
  if (!role.vmInterface) return undefined;
  return { ...role.vmInterface, interface: name, mtuBytes: options.frameBytesMax - FRAME_OVERHEAD_BYTES };
}
