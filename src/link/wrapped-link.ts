import type {
  FrameBatch,
  Link,
  LinkAbilities,
  LinkCounters,
  LinkHandler,
  LinkState,
  VnetHeaderBytes,
} from './link.js';

/** A link that passes everything through to another one: what middleware overrides parts of. */
export abstract class WrappedLink implements Link {
  protected readonly inner: Link;
  protected handler!: LinkHandler;

  protected constructor(inner: Link) {
    this.inner = inner;
  }

  get url(): string {
    return this.inner.url;
  }

  get abilities(): LinkAbilities {
    return this.inner.abilities;
  }

  get state(): LinkState {
    return this.inner.state;
  }

  get counters(): LinkCounters {
    return this.inner.counters;
  }

  open(handler: LinkHandler): Promise<void> {
    this.handler = handler;
    return this.inner.open({
      receive: (batch) => this.received(batch),
      stateChanged: (state, reason) => handler.stateChanged(state, reason),
      ...(handler.maySend === undefined ? {} : { maySend: () => handler.maySend!() }),
    });
  }

  protected received(batch: FrameBatch): void {
    this.handler.receive(batch);
  }

  send(bytes: Buffer, offset: number, length: number, vnetHeaderBytes: VnetHeaderBytes): boolean {
    return this.inner.send(bytes, offset, length, vnetHeaderBytes);
  }

  flush(): void {
    this.inner.flush();
  }

  drain(): number {
    return this.inner.drain();
  }

  untaken(): number {
    return this.inner.untaken();
  }

  discardQueued(): number {
    return this.inner.discardQueued();
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}
