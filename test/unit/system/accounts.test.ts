import { describe, expect, it } from 'vitest';
import { groupId, userId } from '../../../src/system/accounts.js';

describe('accounts', () => {
  it('by name and by number', () => {
    expect([userId('root'), groupId('root'), userId(7), groupId('7')]).toEqual([0, 0, 7, 7]);
  });

  it('an unknown name is a problem of the configuration', () => {
    expect(() => groupId('no-such-group')).toThrow(
      expect.objectContaining({
        code: 'COLO_ERR_CONFIG',
        message: 'no group named no-such-group in /etc/group',
      }),
    );
  });
});
