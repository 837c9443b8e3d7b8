/**
 * Two keys in etcd, over its JSON gateway (etcd 3.4 and later, /v3): `PREFIX/PAIR/generation`, which stays, and
 * `PREFIX/PAIR/holder`, which goes with its lease. One transaction compares both and puts the next of both. Its lock
 * API is not used: a lock says who waited first, not who rules when a holder comes back from the dead.
 */
import type { Clock } from '../system/clock.js';
import type { Arbiter, ArbiterSnapshot, Claim, ClaimAnswer, Claimant, LeaseLimits } from './arbiter.js';

const ANSWER_BYTES_MAX = 64 * 1024;

export interface EtcdOptions {
  /** `http://HOST:PORT`, tried in turn. */
  readonly endpoints: readonly string[];
  /** Before the pair's name, such as `/colo-proxy`. */
  readonly prefix: string;
}

type Json = Readonly<Record<string, unknown>>;

interface Seen {
  readonly generation: number;
  readonly owner: string;
  /** As etcd writes 64-bit numbers: text. "0" for a key that is not there. */
  readonly revision: string;
  /** Process that holds the right, empty for nobody. */
  readonly holder: string;
}

export class EtcdArbiter implements Arbiter {
  readonly kind = 'etcd';
  readonly leaseMs: number;
  readonly #options: EtcdOptions;
  #claimant: Claimant;
  readonly #limits: LeaseLimits;
  readonly #clock: Clock;
  readonly #generationKey: string;
  readonly #holderKey: string;
  #lease = '';
  #generation = 0;

  constructor(options: EtcdOptions, claimant: Claimant, limits: LeaseLimits, clock: Clock) {
    this.#options = options;
    this.#claimant = claimant;
    this.#limits = limits;
    this.#clock = clock;
    this.leaseMs = limits.leaseMs;
    this.#generationKey = base64(`${options.prefix}/${claimant.pair}/generation`);
    this.#holderKey = base64(`${options.prefix}/${claimant.pair}/holder`);
  }

  async claim(claim: Claim, signal: AbortSignal): Promise<ClaimAnswer> {
    const seen = await this.#look(signal);
    const { owner, process } = this.#claimant;
    if (seen.generation > claim.generation && claim.generation > 0 && seen.owner !== owner) {
      return lost(`${seen.owner} has ruled since, in generation ${seen.generation}`);
    }
    if (seen.holder !== '' && seen.holder !== process) return lost(`held by ${seen.holder}`);
    const isHeld = seen.holder === process && this.#lease !== '';
    const right = isHeld ? await this.#keepAlive(signal) : await this.#grant(signal);
    if (right === undefined) return lost('the lease has run out');
    const generation = Math.max(seen.generation, claim.generation) + 1;
    const isPut = await this.#put(seen, isHeld, generation, signal);
    if (!isPut) return lost('somebody else was faster');
    this.#generation = generation;
    return { outcome: 'won', generation, heldUntilMs: right };
  }

  async renew(signal: AbortSignal): Promise<ClaimAnswer> {
    const right = this.#lease === '' ? undefined : await this.#keepAlive(signal);
    if (right === undefined) return lost('the lease has run out');
    return { outcome: 'won', generation: this.#generation, heldUntilMs: right };
  }

  async release(): Promise<void> {
    if (this.#lease === '') return;
    await this.#ask('/v3/lease/revoke', { ID: this.#lease }, AbortSignal.timeout(this.#limits.leaseMs));
    this.#lease = '';
  }

  save(): ArbiterSnapshot {
    return { process: this.#claimant.process, lease: this.#lease, generation: this.#generation };
  }

  load({ process, lease, generation }: ArbiterSnapshot): void {
    this.#claimant = { ...this.#claimant, process: String(process) };
    this.#lease = String(lease);
    this.#generation = Number(generation);
  }

  async #look(signal: AbortSignal): Promise<Seen> {
    const range = (key: string): Json => ({ request_range: { key } });
    const answer = await this.#ask(
      '/v3/kv/txn',
      { success: [range(this.#generationKey), range(this.#holderKey)] },
      signal,
    );
    const [generation, holder] = list(answer.responses).map((response) => {
      return list(object(object(response).response_range).kvs).map(object)[0];
    });
    const text = generation === undefined ? '' : unbase64(generation.value);
    const match = /^(\d{1,15}) (\S{1,64})$/.exec(text);
    if (generation !== undefined && match === null) throw new Error(`the generation in etcd reads "${text}"`);
    return {
      generation: Number(match?.[1] ?? 0),
      owner: match?.[2] ?? '',
      revision: generation === undefined ? '0' : String(generation.mod_revision),
      holder: holder === undefined ? '' : unbase64(holder.value),
    };
  }

  async #put(seen: Seen, isHeld: boolean, generation: number, signal: AbortSignal): Promise<boolean> {
    const { owner, process } = this.#claimant;
    const holder = isHeld
      ? { key: this.#holderKey, target: 'VALUE', result: 'EQUAL', value: base64(process) }
      : { key: this.#holderKey, target: 'VERSION', result: 'EQUAL', version: '0' };
    const answer = await this.#ask(
      '/v3/kv/txn',
      {
        compare: [
          { key: this.#generationKey, target: 'MOD', result: 'EQUAL', mod_revision: seen.revision },
          holder,
        ],
        success: [
          { request_put: { key: this.#generationKey, value: base64(`${generation} ${owner}`) } },
          { request_put: { key: this.#holderKey, value: base64(process), lease: this.#lease } },
        ],
      },
      signal,
    );
    return answer.succeeded === true;
  }

  /** The moment until which output may leave. The lease begins at etcd after we have asked: ours ends earlier. */
  async #grant(signal: AbortSignal): Promise<number | undefined> {
    const askedMs = this.#clock.now();
    const answer = await this.#ask(
      '/v3/lease/grant',
      { TTL: Math.ceil(this.#limits.leaseMs / 1000) },
      signal,
    );
    this.#lease = String(answer.ID);
    return this.#until(askedMs, answer.TTL);
  }

  async #keepAlive(signal: AbortSignal): Promise<number | undefined> {
    const askedMs = this.#clock.now();
    const answer = object((await this.#ask('/v3/lease/keepalive', { ID: this.#lease }, signal)).result);
    const right = this.#until(askedMs, answer.TTL);
    if (right === undefined) this.#lease = '';
    return right;
  }

  #until(askedMs: number, ttl: unknown): number | undefined {
    const seconds = Number(ttl ?? 0);
    if (!(seconds > 0)) return undefined;
    return askedMs + Math.min(seconds * 1000, this.#limits.leaseMs) - this.#limits.marginMs;
  }

  /** The first endpoint that answers. An error answer is an answer only if no other endpoint has a better one. */
  async #ask(path: string, body: Json, signal: AbortSignal): Promise<Json> {
    let problem: unknown = new Error('no endpoint');
    for (const endpoint of this.#options.endpoints) {
      try {
        const response = await fetch(`${endpoint}${path}`, {
          method: 'POST',
          body: JSON.stringify(body),
          signal,
        });
        const text = await limitedText(response);
        if (!response.ok)
          throw new Error(`${endpoint}${path} answers ${response.status}: ${text.slice(0, 200)}`);
        return object(JSON.parse(text));
      } catch (error) {
        problem = error;
        if (signal.aborted) break;
      }
    }
    throw problem;
  }
}

async function limitedText(response: Response): Promise<string> {
  let text = '';
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > ANSWER_BYTES_MAX) throw new Error('the answer has no end');
  }
  return text;
}

function object(value: unknown): Json {
  if (value === undefined) return {};
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error('not what etcd answers');
  return value as Json;
}

function list(value: unknown): readonly unknown[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw new Error('not what etcd answers');
  return value;
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

function unbase64(value: unknown): string {
  return Buffer.from(String(value), 'base64').toString();
}

function lost(detail: string): ClaimAnswer {
  return { outcome: 'lost', detail };
}
