/** Rules held against each other and against the tests they carry: part of checking a configuration. */
import type { ConfigCheck, ConfigProblem } from '../config/checks.js';
import type { RuleConfig } from '../config/rule-schema.js';
import { flowKeyOfText } from './flow-facts.js';
import { compileRule, Opener, type Rule, RuleError, RuleSet } from './rules.js';

export const ruleChecks: ConfigCheck = (config) => checkRules(config.rules);

export function checkRules(configs: readonly RuleConfig[]): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const rules: Rule[] = [];
  for (const [index, config] of configs.entries()) {
    try {
      rules.push(compileRule(config));
    } catch (error) {
      if (!(error instanceof RuleError)) throw error;
      problems.push({ path: ['rules', `${index}`, error.key], what: error.message });
    }
  }
  if (problems.length > 0) return problems;
  const set = new RuleSet(rules, configs);
  for (const [index, { tests }] of configs.entries()) {
    for (const [place, test] of tests.entries()) {
      const what = testProblem(set, index, test);
      if (what !== null) problems.push({ path: ['rules', `${index}`, 'tests', `${place}`], what });
    }
  }
  return problems;
}

function testProblem(set: RuleSet, index: number, test: RuleConfig['tests'][number]): string | null {
  const key = flowKeyOfText(test.flow);
  if (key === undefined) {
    return 'tells no flow; from the guest to the client, such as udp 10.0.0.2:53 > 10.0.0.1:40000 vlan 5';
  }
  const opener =
    test.openedBy === undefined ? Opener.UNKNOWN : test.openedBy === 'guest' ? Opener.GUEST : Opener.CLIENT;
  const found = set.find(key, opener);
  if ((found === index) === test.applies) return null;
  const decides = found === -1 ? 'no rule applies' : `rule ${found + 1} applies`;
  return `test failed: ${decides} to ${test.flow}, expected ${test.applies ? '' : 'any but '}rule ${index + 1}`;
}

/** What a rule lets go or treats apart, in words: `udp, guest port 53, client 10.0.0.0/8`. */
export function ruleScope(rule: RuleConfig): string {
  const parts = [typeof rule.protocol === 'number' ? `IP protocol ${rule.protocol}` : `${rule.protocol}`];
  if (rule.protocol === 'any') parts[0] = 'any protocol';
  if (rule.etherType !== undefined) parts[0] = `EtherType 0x${rule.etherType.toString(16).padStart(4, '0')}`;
  if (rule.icmpType !== undefined) parts.push(`type ${rule.icmpType}`);
  if (rule.guest !== undefined) parts.push(`guest ${rule.guest}`);
  if (rule.guestPort !== undefined) parts.push(`guest port ${rule.guestPort}`);
  if (rule.client !== undefined) parts.push(`client ${rule.client}`);
  if (rule.clientPort !== undefined) parts.push(`client port ${rule.clientPort}`);
  if (rule.vlan !== undefined) parts.push(rule.vlan === 0 ? 'untagged' : `VLAN ${rule.vlan}`);
  if (rule.openedBy !== undefined) parts.push(`opened by the ${rule.openedBy}`);
  return parts.join(', ');
}
