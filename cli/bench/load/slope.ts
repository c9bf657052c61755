/** Whether a row of values grows over time: the slope of a straight line through them, with its margin. */

interface Point {
  readonly x: number;
  readonly y: number;
}

/** Points in the order of x; the oldest ones leave. Adding and dropping are constant work. */
export class SlidingSlope {
  readonly #points: Point[] = [];
  /** Those before it have left. */
  #first = 0;
  /** Sums are of x less this, so that squares stay small. */
  #origin: number | undefined;
  #x = 0;
  #y = 0;
  #xy = 0;
  #xx = 0;
  #yy = 0;

  get size(): number {
    return this.#points.length - this.#first;
  }

  get oldest(): Point | undefined {
    return this.#points[this.#first];
  }

  add(x: number, y: number): void {
    this.#origin ??= x;
    this.#points.push({ x, y });
    this.#count(x, y, 1);
  }

  dropOldest(): void {
    const point = this.oldest;
    if (point === undefined) return;
    this.#first++;
    this.#count(point.x, point.y, -1);
  }

  /**
   * Whether the slope is positive and its margin of error, at 95 %, is less than `margin` times the slope.
   * @param numIndependent how many of the points count as independent of each other; at least 3 are needed.
   */
  grows(numIndependent: number, margin: number): boolean {
    const n = this.size;
    if (numIndependent < 3 || n < 3) return false;
    const xx = Math.max(this.#xx - this.#x ** 2 / n, TINY);
    const xy = this.#xy - (this.#x * this.#y) / n;
    const yy = this.#yy - this.#y ** 2 / n;
    // A level row leaves what sums are rounded by, which is no slope.
    if (!(xy > ROUNDING * Math.sqrt(this.#xx * this.#yy))) return false;
    const slope = xy / xx;
    const freedom = numIndependent - 2;
    const residual = Math.max(0, yy - xy ** 2 / xx);
    const deviation = Math.sqrt(residual / freedom / xx);
    return studentQuantile(freedom) * deviation < margin * slope;
  }

  #count(x: number, y: number, sign: 1 | -1): void {
    const dx = x - (this.#origin ?? 0);
    this.#x += sign * dx;
    this.#y += sign * y;
    this.#xy += sign * dx * y;
    this.#xx += sign * dx * dx;
    this.#yy += sign * y * y;
  }
}

const TINY = 1e-12;
/** More than sums of doubles are off by, as a share of them; less than any growth that matters. */
const ROUNDING = 1e-9;

/** The normal distribution's 97.5 % quantile. */
const Z = 1.959_963_985;

/**
 * The 97.5 % quantile of Student's t for `freedom` > 0, which need not be whole: the first terms of Cornish and Fisher's expansion
 * (Abramowitz and Stegun, 26.7.5). Within 2 % from 3 degrees of freedom on; below, it is too small.
 */
export function studentQuantile(freedom: number): number {
  const [z3, z5, z7] = [Z ** 3, Z ** 5, Z ** 7];
  return (
    Z +
    (z3 + Z) / 4 / freedom +
    (5 * z5 + 16 * z3 + 3 * Z) / 96 / freedom ** 2 +
    (3 * z7 + 19 * z5 + 17 * z3 - 15 * Z) / 384 / freedom ** 3
  );
}
