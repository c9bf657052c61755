/**
 * Runs two or more sides in turn, so that what changes on the machine over the session (heat, other work) meets them all alike:
 * A B B A A B B A … With three sides A B C C B A …
 */

export interface RunCall {
  /** Index into the sides. */
  readonly side: number;
  /** From 0; the runs of one round are compared with each other. Warm-up rounds are counted apart. */
  readonly round: number;
  /** Its result is dropped. */
  readonly warmUp: boolean;
}

export interface SideRun<Result> {
  readonly side: number;
  readonly round: number;
  readonly result: Result;
}

export interface Interleaved<Result> {
  /** In the order in which they ran. */
  readonly runs: readonly SideRun<Result>[];
  /** Why it ended early; `runs` has what was measured until then. */
  readonly stopped?: unknown;
}

export interface InterleavePlan<Result> {
  readonly numSides: number;
  /** Counted runs of each side. */
  readonly rounds: number;
  /** Number of the first round, where a session goes on; default 0. */
  readonly firstRound?: number;
  /** Runs of each side before those, which are not counted. */
  readonly warmUps: number;
  /** One run at a time. A rejection ends the session and is kept as `stopped`. */
  readonly runOnce: (call: RunCall) => Promise<Result>;
  /** Ends the session before the next run. */
  readonly signal?: AbortSignal;
}

export async function interleave<Result>(
  plan: InterleavePlan<Result>,
): Promise<Interleaved<Result>> {
  const runs: SideRun<Result>[] = [];
  try {
    for (const call of callsOf(plan)) {
      plan.signal?.throwIfAborted();
      const result = await plan.runOnce(call);
      if (!call.warmUp) runs.push({ side: call.side, round: call.round, result });
    }
  } catch (stopped) {
    return { runs, stopped };
  }
  return { runs };
}

/** The runs of those rounds that every side has: a session that ended early may have a run without its like. */
export function wholeRounds<Result>(
  { runs }: Interleaved<Result>,
  numSides: number,
): readonly SideRun<Result>[] {
  const sidesOf = (round: number): number => runs.filter((run) => run.round === round).length;
  return runs.filter(({ round }) => sidesOf(round) === numSides);
}

/** The calls of a session, in order. */
export function callsOf({
  numSides,
  rounds,
  firstRound = 0,
  warmUps,
}: Pick<InterleavePlan<unknown>, "numSides" | "rounds" | "firstRound" | "warmUps">): RunCall[] {
  const calls: RunCall[] = [];
  for (let round = 0; round < warmUps; round++)
    for (const side of sidesInOrder(numSides, 0)) calls.push({ side, round, warmUp: true });
  for (let round = firstRound; round < firstRound + rounds; round++)
    for (const side of sidesInOrder(numSides, round)) calls.push({ side, round, warmUp: false });
  return calls;
}

/** Forth in even rounds, back in odd ones: a steady drift adds the same to every side. */
function sidesInOrder(numSides: number, round: number): number[] {
  const sides = Array.from({ length: numSides }, (_, side) => side);
  return round % 2 === 0 ? sides : sides.reverse();
}
