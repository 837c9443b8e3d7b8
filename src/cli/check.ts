/** `colo-proxy check`: is the configuration right, and what is in effect? Needs no root and opens nothing. */
import { stringify } from 'yaml';
import { ruleScope } from '../compare/rule-checks.js';
import type { Config } from '../config/derive.js';
import { ColoError } from '../errors.js';
import { interfaceMtus, mtuProblems } from '../link/interface-mtus.js';

/** The effective configuration as YAML that can be used as a file. Throws COLO_ERR_MTU. */
export function checkReport(config: Config): { yaml: string; notes: string[] } {
  const interfaces = interfaceMtus(config);
  const problems = mtuProblems(interfaces);
  if (problems.length > 0) throw new ColoError('COLO_ERR_MTU', problems.join('\n'));
  const notes = interfaces.filter((one) => one.mtuBytes === null).map((one) => absenceNote(config, one));
  return { yaml: stringify(config), notes: [...notes, ...ruleNotes(config)] };
}

/** What is not protected, and why; what is treated apart; how many tests of rules passed (a failed one is a problem). */
function ruleNotes({ rules }: Config): string[] {
  const notes = ['not protected: link control (ARP, neighbour discovery, IGMP, MLD, LLDP, STP)'];
  for (const [index, rule] of rules.entries()) {
    const scope = `${ruleScope(rule)} (rule ${index + 1}: ${rule.why})`;
    if (rule.action === 'waive') notes.push(`not protected: ${scope}`);
    if (rule.action === 'checkpoint') notes.push(`never compared, waits for a checkpoint: ${scope}`);
  }
  const tests = rules.reduce((sum, rule) => sum + rule.tests.length, 0);
  if (rules.length > 0) notes.push(`${rules.length} rules, ${tests} tests of rules passed`);
  return notes;
}

function absenceNote(
  config: Config,
  one: { name: string; role: 'client' | 'primary' | 'secondary' },
): string {
  const isMade =
    one.role === 'client'
      ? config.client.link.startsWith('tap:') && config.client.link.split(/[:,]/)[1] === one.name
      : config[one.role].createTap;
  return `${one.name} (${one.role}) does not exist yet; ${isMade ? 'the proxy makes it' : 'the proxy waits for it'}`;
}
