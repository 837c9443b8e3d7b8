/**
 * T2, T3: whatever the two VMs acknowledge and offer, and whenever, no frame shows the client more than both have shown,
 * none goes back behind what was shown, every checksum is right, and in the end the client knows all of it.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { rightEdge } from '../../../src/compare/tcp-state.js';
import { ACK, Guest, Harness, SYN, sound } from './harness.js';

const SCALE = 3;

/** One segment of a VM: how much more it acknowledges, its window, how much data it carries. */
const step = fc.record({
  acks: fc.integer({ min: 0, max: 3000 }),
  window: fc.integer({ min: 1, max: 4000 }),
  bytes: fc.constantFrom(0, 0, 10, 700),
});

describe('acknowledgements and windows', () => {
  it('never show more than both VMs have, and lose nothing', () => {
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 1, maxLength: 25 }),
        fc.array(step, { minLength: 1, maxLength: 25 }),
        fc.array(fc.boolean(), { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 0, max: 0xffffffff }),
        (primarySteps, secondarySteps, turns, clientIsn) => {
          const harness = new Harness({ holdMsMax: 100_000 });
          const p = new Guest(1_000_000, 0, { clientIsn });
          const s = new Guest(9_000_000, 0, { clientIsn });
          harness.client(p.fromClient({ flags: SYN, options: { windowScale: 7 } }));
          harness.primary(p.synAck({ windowScale: SCALE }, 10));
          harness.secondary(s.synAck({ windowScale: SCALE }, 10));
          const stream = Buffer.alloc(60_000, 7);
          const said = {
            primary: { ack: 1, sent: 1, edge: 11 },
            secondary: { ack: 1, sent: 1, edge: 11 },
          };
          let checked = 1;
          let shownAck = 1;
          const speak = (
            side: 'primary' | 'secondary',
            acks: number,
            window: number,
            bytes: number,
          ): void => {
            const own = said[side];
            own.ack += acks;
            // a right edge never goes back (RFC 9293 3.8.6)
            const field = Math.max(window, Math.ceil((own.edge - own.ack) / 2 ** SCALE));
            own.edge = Math.max(own.edge, own.ack + field * 2 ** SCALE);
            const guest = side === 'primary' ? p : s;
            const data = stream.subarray(0, bytes);
            harness[side](
              guest.frame({ at: own.sent, ack: own.ack, window: field, ...(bytes > 0 ? { data } : {}) }),
            );
            own.sent += bytes;
            for (; checked < harness.released.length; checked += 1) {
              const { view } = harness.released[checked]!;
              const ack = (view.ack - clientIsn) | 0;
              expect(ack).toBeLessThanOrEqual(said.secondary.ack);
              expect(ack).toBeGreaterThanOrEqual(shownAck);
              expect((rightEdge(view, SCALE) - clientIsn) | 0).toBeLessThanOrEqual(said.secondary.edge);
              expect(sound(view)).toBe(true);
              shownAck = ack;
            }
          };
          let atPrimary = 0;
          let atSecondary = 0;
          for (
            let turn = 0;
            atPrimary < primarySteps.length || atSecondary < secondarySteps.length;
            turn += 1
          ) {
            const first = turns[turn % turns.length]! && atPrimary < primarySteps.length;
            if (first || atSecondary === secondarySteps.length) {
              const { acks, window, bytes } = primarySteps[atPrimary]!;
              speak('primary', acks, window, bytes);
              atPrimary += 1;
            } else {
              const { acks, window, bytes } = secondarySteps[atSecondary]!;
              speak('secondary', acks, window, bytes);
              atSecondary += 1;
            }
          }
          // the secondary catches up: with the primary's data, acknowledgement and window
          const missing = said.primary.sent - said.secondary.sent;
          speak(
            'secondary',
            Math.max(0, said.primary.ack - said.secondary.ack),
            65_000,
            Math.max(0, missing),
          );
          expect(harness.comparator.heldFrames).toBe(0);
          expect(shownAck).toBe(said.primary.ack);
          expect(harness.divergences).toHaveLength(0);
          const data = harness.released.filter(({ view }) => view.payloadBytes > 0);
          expect(data.reduce((sum, { view }) => sum + view.payloadBytes, 0)).toBe(said.primary.sent - 1);
          expect(data.every(({ view }) => (view.tcpFlags & ACK) !== 0)).toBe(true);
        },
      ),
      { numRuns: 400 },
    );
  });
});
