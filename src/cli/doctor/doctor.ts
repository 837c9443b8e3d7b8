/** `colo-proxy doctor`: would this pair work here? Each finding with its cure; nothing is changed. */
import type { Config } from '../../config/derive.js';
import { parseAddress } from '../../system/channel.js';
import { arbiterFindings } from './arbiter-checks.js';
import { type Finding, findingLines } from './finding.js';
import { hostFindings, realHostFacts } from './host-checks.js';
import { askVm, vmFindings } from './vm-checks.js';

/** Exit code 1 when something fails; a warning is no failure. */
export async function doctor(
  config: Config,
  { out, json }: { readonly out: (text: string) => void; readonly json: boolean },
): Promise<number> {
  const [primary, secondary] = await Promise.all([
    askVm('primary', parseAddress(config.primary.qmp)!),
    askVm('secondary', parseAddress(config.secondary.qmp)!),
  ]);
  const facts = realHostFacts();
  const findings: Finding[] = [
    ...hostFindings(config, facts),
    ...(await arbiterFindings(config, facts)),
    ...vmFindings(primary, secondary),
  ];
  const count = (level: Finding['level']): number => findings.filter((one) => one.level === level).length;
  if (json) out(`${JSON.stringify(findings)}\n`);
  else {
    for (const finding of findings) out(`${findingLines(finding).join('\n')}\n`);
    out(`${count('pass')} pass, ${count('warn')} warn, ${count('fail')} fail\n`);
  }
  return count('fail') === 0 ? 0 : 1;
}
