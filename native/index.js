/** Loads the addon; index.d.ts describes what it exports. */
import { createRequire } from 'node:module';

let addon;
export let loadError;
try {
  addon = createRequire(import.meta.url)('./build/Release/colo_native.node');
} catch (cause) {
  loadError = new Error(
    `the native addon cannot be loaded: ${cause.message.split('\n')[0]} (build it with "node native/build.mjs")`,
    { cause },
  );
}

/** Programs that need no addon (checking a config, say) may import this and never notice that it is missing. */
function exported(name) {
  return (
    addon?.[name] ??
    (() => {
      throw loadError;
    })
  );
}

export const SLOT_OVERHEAD_BYTES = 16;
export const VNET_HEADER_BYTES = 10;
export const CLOSES_ASIDE_MAX = 16;
export const openTap = exported('openTap');
export const createPersistentTap = exported('createPersistentTap');
export const removeTap = exported('removeTap');
export const openPacketSocket = exported('openPacketSocket');
export const adoptTap = exported('adoptTap');
export const adoptPacketSocket = exported('adoptPacketSocket');
export const adoptStream = exported('adoptStream');
export const setBusyPoll = exported('setBusyPoll');
export const openNetlink = exported('openNetlink');
export const firstDifference = exported('firstDifference');
export const sum16 = exported('sum16');
export const notifySystemd = exported('notifySystemd');
export const executeConfined = exported('executeConfined');
export const acknowledgeAtOnce = exported('acknowledgeAtOnce');
