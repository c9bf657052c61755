/** Lists of integers as llama-bench takes them: `1,2`, and the ranges `first-last`, `first-last+step` and `first-last*factor`. */

/** A longer range is a slip of the pen. */
const MOST_OF_A_RANGE = 1000;

/** All numbers in order; NaN for each part that is neither an integer nor a range that gets to its end. */
export function parseIntegerList(text: string): number[] {
  return text.split(",").flatMap((part) => parsePart(part.trim()));
}

function parsePart(part: string): number[] {
  const [, first, last, operator = "+", operand = "1"] =
    /^(\d[\d_]*)-(\d[\d_]*)(?:([+*])(\d[\d_]*))?$/.exec(part) ?? [];
  if (first === undefined || last === undefined) return [parseInteger(part)];
  return expand(parseInteger(first), parseInteger(last), operator, parseInteger(operand));
}

function expand(first: number, last: number, operator: string, operand: number): number[] {
  const numbers: number[] = [];
  for (let number = first; number <= last;) {
    const next = operator === "+" ? number + operand : number * operand;
    if (!(next > number) || numbers.length === MOST_OF_A_RANGE) return [Number.NaN];
    numbers.push(number);
    number = next;
  }
  return numbers.length === 0 ? [Number.NaN] : numbers;
}

/** `1_000` is 1000; NaN for anything but an integer of 53 bits. */
export function parseInteger(text: string): number {
  const value = /^-?\d[\d_]*$/.test(text) ? Number(text.replaceAll("_", "")) : Number.NaN;
  return Number.isSafeInteger(value) ? value : Number.NaN;
}
