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

/** Jobs that another thread ends in any order: each has a number. */
export class AskedJobs<T> {
  readonly #open = new Map<number, PromiseWithResolvers<T>>();
  #last = 0;

  /** Jobs that have not ended. */
  get length(): number {
    return this.#open.size;
  }

  /** A job that is about to be sent. */
  next(): { readonly job: number; readonly answer: Promise<T> } {
    const question = Promise.withResolvers<T>();
    this.#open.set(++this.#last, question);
    return { job: this.#last, answer: question.promise };
  }

  answer(job: number, value: T): void {
    this.#open.get(job)?.resolve(value);
    this.#open.delete(job);
  }

  refuse(job: number, error: Error): void {
    this.#open.get(job)?.reject(error);
    this.#open.delete(job);
  }

  /** No answer will come any more. */
  refuseAll(error: Error): void {
    for (const job of [...this.#open.keys()]) this.refuse(job, error);
  }
}
