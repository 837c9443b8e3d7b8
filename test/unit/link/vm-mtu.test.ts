import { expect, it } from 'vitest';
import { TWO_TAGS_BYTES, tapMark, vmMtuBytes } from '../../../src/link/vm-mtu.js';

it("takes the room for tags off the MTU of a tap that a proxy made, and of no other's", () => {
  expect(vmMtuBytes(1500 + TWO_TAGS_BYTES, tapMark('web'))).toBe(1500);
  expect(vmMtuBytes(1500, '')).toBe(1500);
  expect(vmMtuBytes(9000, "the operator's alias\n")).toBe(9000);
});
