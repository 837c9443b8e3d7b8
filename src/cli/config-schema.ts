import { z } from 'zod';
import { configSchema } from '../config/schema.js';

/** JSON Schema of the configuration file, for editors and other programs. */
export function configJsonSchema(): object {
  return {
    title: 'Configuration of colo-proxy',
    ...z.toJSONSchema(configSchema, { io: 'input', unrepresentable: 'any' }),
  };
}
