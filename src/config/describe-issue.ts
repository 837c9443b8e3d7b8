/** What the schema found wrong, in words for people: always `must be ...` or what to write instead. */
import type { z } from 'zod';

type Issue = z.core.$ZodIssue;

const TYPE_NAMES: Record<string, string> = {
  int: 'a whole number',
  number: 'a whole number', // there are no other numbers in the schema
  string: 'text',
  boolean: 'true or false',
  object: 'a group of keys',
};

/** `given` is the value found, when there is one. Unknown keys are described by the caller. */
export function describeIssue(issue: Issue, given: unknown): string {
  switch (issue.code) {
    case 'invalid_type': {
      // A message of the schema's own says more than the type's name.
      if (!issue.message.startsWith('Invalid input')) return issue.message;
      const expected = TYPE_NAMES[issue.expected] ?? issue.expected;
      return `must be ${expected}, not ${nameOf(given)}`;
    }
    case 'too_small':
      return `must be at least ${issue.minimum}${unitOf(issue.origin)}, not ${nameOf(given)}`;
    case 'too_big':
      return `must be at most ${issue.maximum}${unitOf(issue.origin)}, not ${nameOf(given)}`;
    case 'invalid_value':
      return `must be one of ${issue.values.map(String).join(', ')}, not ${nameOf(given)}`;
    default:
      return `${issue.message}, not ${nameOf(given)}`;
  }
}

/** Numbers have theirs in the name of the key. */
function unitOf(origin: string): string {
  if (origin === 'string') return ' characters';
  return origin === 'array' ? ' entries' : '';
}

const SHOWN_CHARACTERS_MAX = 60;

function nameOf(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a group of keys';
  if (typeof value !== 'string') return String(value);
  const text = JSON.stringify(value);
  return text.length <= SHOWN_CHARACTERS_MAX ? text : `${text.slice(0, SHOWN_CHARACTERS_MAX)}..."`;
}
