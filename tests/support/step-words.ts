/** Steps for the native side, written by hand. Layout: `kernels/core/src/step.rs`. */

const VERSION = 2;
const HEADER_WORDS = 8;
/** Target of a sample that picks a token. */
export const PICK = -1;

export interface StepRow {
  readonly seat: number;
  /** Position of the first token. */
  readonly start: number;
  readonly tokens: ArrayLike<number>;
  /** Token index in the row and target of each sample, ascending; default: the last token picks. */
  readonly samples?: readonly (readonly [offset: number, target: number])[];
  /** One a group. */
  readonly tables: readonly (readonly number[])[];
}

export function stepWords(
  stepId: number,
  rows: readonly StepRow[],
  copies: readonly (readonly [from: number, to: number])[] = [],
): Int32Array {
  const numGroups = rows[0]?.tables.length ?? 1;
  const firstToken = [0];
  for (const { tokens } of rows) firstToken.push(firstToken.at(-1)! + tokens.length);
  const samples = rows.flatMap(({ tokens, samples: given }, row) =>
    (given ?? [[tokens.length - 1, PICK] as const]).map(
      ([offset, target]) => [firstToken[row]! + offset, target] as const,
    ),
  );
  const tables = Array.from({ length: numGroups }, (_, group) =>
    rows.map((row) => row.tables[group]!),
  ).flat();
  const tableStart = [0];
  for (const table of tables) tableStart.push(tableStart.at(-1)! + table.length);
  const header = new Int32Array(HEADER_WORDS);
  header.set([
    VERSION,
    stepId,
    firstToken.at(-1)!,
    rows.length,
    numGroups,
    samples.length,
    tableStart.at(-1)!,
    copies.length,
  ]);
  return Int32Array.from([
    ...header,
    ...rows.flatMap(({ tokens }) => Array.from(tokens)),
    ...rows.map(({ seat }) => seat),
    ...firstToken,
    ...rows.map(({ start }) => start),
    ...samples.map(([token]) => token),
    ...samples.map(([, target]) => target),
    ...tableStart,
    ...tables.flat(),
    ...copies.flat(),
  ]);
}
