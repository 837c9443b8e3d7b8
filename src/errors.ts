/**
 * Every error class of the project and its stable code, in one place.
 *
 * A ColoError says what failed, where, and what to do. Its `code` never changes once released: scripts,
 * logs and docs/reference/errors.md refer to it. Add a code here, with one line of meaning, before using it.
 */
export const ERROR_CODES = {
  COLO_ERR_CONFIG: 'the configuration is wrong: the message names file, line, column and key',
  COLO_ERR_USAGE: 'the command line is wrong',
  COLO_ERR_LINK_URL: 'a link URL has an unknown scheme or a malformed part',
  COLO_ERR_LINK_OPEN: 'a link could not be opened; the proxy keeps retrying',
  COLO_ERR_LINK_LOST: 'an open link went down or its peer closed it; the proxy reopens it',
  COLO_ERR_LINK_FRAMING:
    'a stream link carried an impossible frame length; the connection is dropped and made anew',
  COLO_ERR_TAP_OPEN: 'a TAP interface could not be created or opened (privileges, name, kernel module)',
  COLO_ERR_TAP_IN_USE:
    'a TAP has an address, a bridge master or another holder: it must belong to the proxy alone',
  COLO_ERR_TAP_ISOLATE: "the host's own stack could not be kept off a VM's tap",
  COLO_ERR_MTU: 'the MTUs of the client side and the VM side differ or a frame exceeds them',
  COLO_ERR_QMP_CONNECT: 'the QMP socket cannot be reached',
  COLO_ERR_QMP_PROTOCOL: 'the QMP peer sent something that is not QMP',
  COLO_ERR_QMP_COMMAND: 'QEMU refused a QMP command',
  COLO_ERR_QMP_TIMEOUT: 'QEMU did not answer a QMP command in time',
  COLO_ERR_PROTOCOL_WORD: 'a sync-point came out of order or is unknown on the migration channel',
  COLO_ERR_MIGRATION_LISTEN: 'the address the primary migrates to cannot be listened on',
  COLO_ERR_CHANNEL_LOST: 'the migration channel was closed',
  COLO_ERR_PHASE_LIMIT: 'a phase of the checkpoint ran out of time',
  COLO_ERR_CHECKPOINT: 'a checkpoint was asked for and cannot be taken, or was given up',
  COLO_ERR_CONTROL: 'the control socket of a running proxy cannot be reached',
  COLO_ERR_ADDON: 'the native addon is missing or does not fit this Node.js',
  COLO_ERR_HTTP_LISTEN: 'the admin address cannot be listened on',
  COLO_ERR_CAPTURE: 'a file is no packet capture this can read (pcap, pcapng)',
  COLO_ERR_EVIDENCE: 'evidence or a recording could not be written',
  COLO_ERR_STATE: 'the state file of a failover is damaged, of another version, or cannot be written',
  COLO_ERR_ARBITER: 'the arbiter does not let this side go on, or does not answer: nothing leaves',
  COLO_ERR_FENCE: 'the fencing program failed: the other side may still live',
  COLO_ERR_FAILOVER: 'a failover, protection or switchover was asked for and cannot be had now',
  COLO_ERR_DISK: 'a disk could not be mirrored to the secondary, or not be let go of: protection is given up',
  COLO_ERR_HANDOVER: 'a hot restart cannot be had now: the running process goes on',
  COLO_ERR_RUNTIME_DIR: 'the runtime directory cannot be made or used',
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

/** An error with a stable code. `cause` keeps what the system said. */
export class ColoError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'ColoError';
    this.code = code;
  }
  /** `message (CODE)`: the form people see. */
  override toString(): string {
    return `${this.message} (${this.code})`;
  }
}

/** Anything thrown or rejected, as a ColoError with `code` unless it is one already. */
export function asColoError(error: unknown, code: ErrorCode, context: string): ColoError {
  if (error instanceof ColoError) return error;
  const text = error instanceof Error ? error.message : String(error);
  return new ColoError(code, `${context}: ${text}`, { cause: error });
}
