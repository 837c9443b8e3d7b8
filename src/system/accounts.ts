/** Users and groups by name or number, as the system's own files have them (passwd(5), group(5)). */
import { readFileSync } from 'node:fs';
import { ColoError } from '../errors.js';

/** The uid of a user. Throws COLO_ERR_CONFIG when there is none of that name. */
export function userId(user: string | number): number {
  return accountId('user', '/etc/passwd', user);
}

/** The gid of a group. Throws COLO_ERR_CONFIG when there is none of that name. */
export function groupId(group: string | number): number {
  return accountId('group', '/etc/group', group);
}

function accountId(kind: string, file: string, account: string | number): number {
  if (typeof account === 'number') return account;
  if (/^\d+$/.test(account)) return Number(account);
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const [name, , id] = line.split(':');
    if (name === account) return Number(id);
  }
  throw new ColoError('COLO_ERR_CONFIG', `no ${kind} named ${account} in ${file}`);
}
