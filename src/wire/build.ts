/** Every builder under one name; announcements, the simulation and tests import from here. */
export * from './build-ip.js';
export * from './build-neighbour.js';
export * from './build-transport.js';
export * from './vlan.js';
