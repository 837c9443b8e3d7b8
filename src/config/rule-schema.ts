/** The shape of `rules`: exceptions from comparing. What they mean together is judged by compare/rules.ts. */
import { z } from 'zod';

const PORT = String.raw`(\d{1,5})`;

const ports = (whose: string) =>
  z
    .union([z.int().min(1).max(65_535), z.string().regex(new RegExp(`^${PORT}-${PORT}$`))], {
      error: 'must be a port, or a range in quotes such as "8000-8099"',
    })
    .optional()
    .describe(`${whose} port or range of ports; TCP and UDP only`);

const prefix = (whose: string) =>
  z
    .string()
    .regex(/^[0-9a-fA-F:.]+(\/\d{1,3})?$/, 'must be an address or a prefix such as 10.0.0.0/8')
    .optional()
    .describe(`${whose} address or prefix`);

const opener = () => z.enum(['guest', 'client']).optional();

export const ruleSchema = z.strictObject({
  why: z
    .string()
    .trim()
    .min(3, 'must say why, in words')
    .max(200)
    .regex(/^[^\p{Cc}]*$/u, 'must be one line'),
  action: z.enum(['waive', 'checkpoint', 'compare']),
  protocol: z.union(
    [z.enum(['any', 'tcp', 'udp', 'icmp', 'icmpv6', 'gre', 'esp', 'ah', 'sctp']), z.int().min(0).max(255)],
    { error: 'must be any, tcp, udp, icmp, icmpv6, gre, esp, ah, sctp or a protocol number' },
  ),
  guest: prefix("The guest's"),
  client: prefix("The client's"),
  guestPort: ports("The guest's"),
  clientPort: ports("The client's"),
  icmpType: z.int().min(0).max(255).optional().describe('Type of the ICMP message the guest sends'),
  etherType: z
    .int()
    .min(0x0600)
    .max(0xffff)
    .optional()
    .describe('Frames that are not IP, by their EtherType, such as 0x88f7'),
  vlan: z
    .union([z.int().min(0).max(4094), z.string().regex(/^\d{1,4}\.\d{1,4}$/)], {
      error: 'must be a VLAN id, 0 for untagged, or OUTER.INNER in quotes',
    })
    .optional(),
  openedBy: opener(),
  tests: z
    .array(z.strictObject({ flow: z.string().max(200), openedBy: opener(), applies: z.boolean() }))
    .max(100)
    .default([]),
});

export type RuleConfig = z.output<typeof ruleSchema>;
