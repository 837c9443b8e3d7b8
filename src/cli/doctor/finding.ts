/** One thing that was looked at, and what to do about it. */
export interface Finding {
  readonly level: 'pass' | 'warn' | 'fail';
  readonly what: string;
  /** What was seen. */
  readonly detail: string;
  /** Empty when there is nothing to cure. */
  readonly cure: string;
}

export function pass(what: string, detail: string): Finding {
  return { level: 'pass', what, detail, cure: '' };
}

export function warn(what: string, detail: string, cure: string): Finding {
  return { level: 'warn', what, detail, cure };
}

export function fail(what: string, detail: string, cure: string): Finding {
  return { level: 'fail', what, detail, cure };
}

/** `PASS  what: detail`, the cure on a line of its own. */
export function findingLines({ level, what, detail, cure }: Finding): string[] {
  const line = `${level.toUpperCase()}  ${what}: ${detail}`;
  return cure === '' ? [line] : [line, `      cure: ${cure}`];
}
