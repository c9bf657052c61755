/** The largest request rate at which a target keeps its promises: rates are doubled until one fails, then the gap is halved. */

/** One rate that was tried. */
export interface Probe<Result> {
  /** Conversations a second. */
  readonly rate: number;
  readonly passed: boolean;
  /** Why it failed: `ttft p99 812 ms > 500 ms`, `over-saturation`. */
  readonly why?: string;
  readonly result: Result;
}

export interface SloSearchOptions {
  /** The first rate. */
  readonly start: number;
  /** Rates beyond these are not tried. */
  readonly min: number;
  readonly max: number;
  /** The search ends when the smallest rate that failed is at most this share above the largest that passed. */
  readonly tolerance: number;
  readonly maxProbes: number;
}

export interface SloSearchResult<Result> {
  /** In the order in which they were tried. */
  readonly probes: readonly Probe<Result>[];
  /** The largest rate that passed; undefined = none did. */
  readonly best: Probe<Result> | undefined;
  /** The smallest rate that failed; undefined = none did. */
  readonly limit: Probe<Result> | undefined;
}

/** @param probe tries a rate; undefined ends the search (an interrupt), with what there is. */
export async function searchRate<Result>(
  options: SloSearchOptions,
  probe: (rate: number) => Promise<Probe<Result> | undefined>,
): Promise<SloSearchResult<Result>> {
  const probes: Probe<Result>[] = [];
  let best: Probe<Result> | undefined;
  let limit: Probe<Result> | undefined;
  let rate: number | undefined = options.start;
  while (rate !== undefined && probes.length < options.maxProbes) {
    const tried = await probe(rate);
    if (tried === undefined) break;
    probes.push(tried);
    if (tried.passed) best = tried;
    else limit = tried;
    rate = nextRate(options, best?.rate, limit?.rate);
  }
  return { probes, best, limit };
}

/** Undefined = the answer is known as well as it should be. Every new rate lies between what passed and what failed. */
function nextRate(
  { min, max, tolerance }: SloSearchOptions,
  passed: number | undefined,
  failed: number | undefined,
): number | undefined {
  if (failed === undefined) {
    const doubled = Math.min(max, 2 * (passed ?? min));
    return doubled === passed ? undefined : doubled;
  }
  if (passed === undefined) {
    const halved = Math.max(min, failed / 2);
    return halved === failed ? undefined : halved;
  }
  return failed <= passed * (1 + tolerance) ? undefined : Math.sqrt(passed * failed);
}
