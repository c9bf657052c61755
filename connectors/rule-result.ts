/** What became of one rule of a suite. */
export interface RuleResult {
  readonly rule: string;
  /** Why it does not hold; undefined = it does. */
  readonly failure: string | undefined;
}
