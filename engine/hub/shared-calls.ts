/** Calls under way in this process: who asks for what another is getting already waits for that one. */
export class SharedCalls<T> {
  readonly #underWay = new Map<string, Promise<T>>();

  async share(key: string, call: () => Promise<T>): Promise<T> {
    const running = this.#underWay.get(key) ?? call().finally(() => this.#underWay.delete(key));
    this.#underWay.set(key, running);
    return await running;
  }
}
