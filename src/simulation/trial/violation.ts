export const INVARIANTS = [
  'output-commit',
  'transcript',
  'one-side-releases',
  'memory',
  'progress',
  'epoch',
  'metrics',
  'crash',
] as const;
export type Invariant = (typeof INVARIANTS)[number];

export interface Violation {
  readonly invariant: Invariant;
  readonly atMs: number;
  readonly what: string;
}

/** Tells of something that must never be. */
export type Fail = (invariant: Invariant, what: string) => void;
