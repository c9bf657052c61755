/** Questions that another thread answers in the order in which they were asked. */

export class Asked<T> {
  readonly #open: PromiseWithResolvers<T>[] = [];

  /** Questions without an answer. */
  get length(): number {
    return this.#open.length;
  }

  /** The answer to a question that is about to be sent. */
  next(): Promise<T> {
    const question = Promise.withResolvers<T>();
    this.#open.push(question);
    return question.promise;
  }

  /** The oldest question is answered. */
  answer(value: T): void {
    this.#open.shift()?.resolve(value);
  }

  /** The oldest question cannot be answered. */
  refuse(error: Error): void {
    this.#open.shift()?.reject(error);
  }

  /** No answer will come any more. */
  refuseAll(error: Error): void {
    for (const question of this.#open.splice(0)) question.reject(error);
  }
}

/** Questions whose answers come in any order. */
export class Numbered<T> {
  readonly #open = new Map<number, PromiseWithResolvers<T>>();
  #last = 0;

  get length(): number {
    return this.#open.size;
  }

  /** The number of a question that is about to be sent, and its answer. */
  next(): readonly [number: number, answer: Promise<T>] {
    const question = Promise.withResolvers<T>();
    this.#open.set(++this.#last, question);
    return [this.#last, question.promise];
  }

  settle(number: number, answer: T | Error): void {
    const question = this.#open.get(number);
    this.#open.delete(number);
    if (answer instanceof Error) question?.reject(answer);
    else question?.resolve(answer);
  }

  refuseAll(error: Error): void {
    for (const number of [...this.#open.keys()]) this.settle(number, error);
  }
}
