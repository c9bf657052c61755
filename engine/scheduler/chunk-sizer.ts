/**
 * Sizes the prompt tokens of a step so that decodes in it keep their pace: what is left of `--tpot-slo` after the decodes, by
 * what a prompt token has cost lately. It learns from step results alone, in the order of the commits, and reads no clock:
 * equal results give equal sizes. Drafts count as prompt tokens: they are computed the same way.
 *
 * The model of a step's time is `fixed + perDecode · decodes + perToken · promptTokens`. Steps with decodes alone teach the first
 * two, steps with prompt tokens the last, by what is left of their time. So an error in the first two lands in the last, and the
 * sum, which is what must fit, is right for steps like those seen lately, whatever the true costs.
 */

export interface StepSample {
  /** Rows that decode. */
  readonly decodes: number;
  /** All other tokens: of prompts, and drafts. */
  readonly promptTokens: number;
  readonly micros: number;
}

/** What speculation makes of a step. */
export interface Speculating {
  /** Drafted tokens in the step. */
  readonly draftTokens: number;
  /** Steps from one row of a stream to its next: 2 where one waits for its drafts to be verified. */
  readonly stepsBetween: 1 | 2;
}

const NOBODY_SPECULATES: Speculating = { draftTokens: 0, stepsBetween: 1 };

/** Part of the objective that is planned for: costs vary from step to step. */
const MARGIN = 0.9;
/** Prompt tokens of the first step with decodes, before it is known what that costs. */
const CAREFUL_START = 64;
/** Prompts never starve: so many tokens at least, and so many as cost this share of the decodes' time. */
const LEAST_TOKENS = 8;
const LEAST_SHARE = 0.25;
/** Weights of a new sample in the averages. */
const DECODE_WEIGHT = 0.125;
/** Dearer prompt tokens are believed sooner than cheaper ones: that is the safe side. */
const DEARER_WEIGHT = 0.5;
const CHEAPER_WEIGHT = 0.25;
/** A sample counts as at most so many times more or less than expected: one hiccup of the machine moves little. */
const MOST_CHANGE = 2;
/** Samples at first of which the least counts: the first steps of a process are slow. */
const WARM_UP = 3;
/** Fewest prompt tokens whose cost tells anything. */
const LEAST_SAMPLE = 8;
/** Prompt tokens of a step from which on its cost is more than what any step costs: what is left of a cached prompt is not. */
const TELLING_SAMPLE = 32;

export class ChunkSizer {
  readonly #sloMicros: number;
  readonly #decodes: DecodeTime = new DecodeTime();
  /** Microseconds for each prompt token; 0 = not known. */
  #perToken = 0;
  /** No step with many prompt tokens was seen. */
  #isVague = true;

  readonly #guessedMicros: number;

  /**
   * `tpotSlo`: milliseconds that a step with decodes should take at most; 0 = no objective. `guessedMicros`: what a prompt token is
   * believed to cost before a long step tells it; Infinity = nothing is.
   */
  constructor(tpotSlo: number, guessedMicros: number = Infinity) {
    this.#sloMicros = tpotSlo * 1000;
    this.#guessedMicros = guessedMicros;
  }

  /**
   * Microseconds that a prompt token has cost lately; 0 = not known. The guess is the most it is as long as steps with few prompt
   * tokens alone were seen: who computes by it learns better, who loads by a dear step would go on loading.
   */
  get microsPerToken(): number {
    if (!this.#isVague) return this.#perToken;
    const least = Math.min(this.#perToken || Infinity, this.#guessedMicros);
    return least === Infinity ? 0 : least;
  }

  /** The same, and 0 as long as steps with few prompt tokens alone were seen, of whose time the most is what any step takes. */
  get surelyMicrosPerToken(): number {
    return this.#isVague ? 0 : this.#perToken;
  }

  /** Learns from a committed step. */
  observe({ decodes, promptTokens, micros }: StepSample): void {
    if (!(micros > 0)) return;
    if (promptTokens === 0) {
      if (decodes > 0) this.#decodes.observe(decodes, micros);
      return;
    }
    if (decodes > 0) this.#observeDecodesOfMixed(decodes, promptTokens, micros);
    if (promptTokens < LEAST_SAMPLE) return;
    const others = decodes > 0 ? this.#decodes.of(decodes) : this.#decodes.fixed;
    const rest = micros - others;
    if (this.#perToken === 0 || (this.#isVague && promptTokens >= TELLING_SAMPLE)) {
      this.#isVague = promptTokens < TELLING_SAMPLE;
      this.#perToken = Math.max(rest, micros / 8) / promptTokens;
      return;
    }
    // A step that is mostly decodes says little about prompt tokens.
    const share = Math.min(1, Math.max(rest, this.#perToken * promptTokens) / micros);
    const sample = clamped(rest / promptTokens, this.#perToken);
    const weight = sample > this.#perToken ? DEARER_WEIGHT : CHEAPER_WEIGHT;
    this.#perToken += weight * Math.max(0.25, share) * (sample - this.#perToken);
  }

  /**
   * Prompt tokens, at most `ceiling`, that a step may have beside so many streams: sequences past their prompt, whether they have a
   * row in the step or wait for an earlier one.
   */
  size(
    streams: number,
    ceiling: number,
    { draftTokens, stepsBetween }: Speculating = NOBODY_SPECULATES,
  ): number {
    if (this.#sloMicros === 0 || streams === 0) return ceiling;
    if (this.#perToken === 0 || !this.#decodes.known)
      return Math.min(CAREFUL_START / stepsBetween, ceiling);
    const sloMicros = this.#sloMicros / stepsBetween;
    const decodeMicros = this.#decodes.of(streams);
    const fitting = (sloMicros * MARGIN - decodeMicros) / this.#perToken - draftTokens;
    const share = (LEAST_SHARE * Math.min(decodeMicros, sloMicros)) / this.#perToken;
    return Math.min(ceiling, Math.floor(Math.max(fitting, share, LEAST_TOKENS)));
  }

  /** What a step with prompt tokens says about decodes: a first guess, and later that they took no longer than the step. */
  #observeDecodesOfMixed(decodes: number, promptTokens: number, micros: number): void {
    if (!this.#decodes.known) {
      const prompt = Math.min(this.#perToken * promptTokens, 0.75 * micros);
      this.#decodes.observe(decodes, prompt === 0 ? micros / 2 : micros - prompt);
    } else if (micros < this.#decodes.of(decodes)) {
      this.#decodes.observe(decodes, micros);
    }
  }
}

/** Time of a step of decodes alone, as `fixed + perDecode · decodes`: a line through exponential averages. */
class DecodeTime {
  #numSamples = 0;
  #meanDecodes = 0;
  #meanMicros = 0;
  #variance = 0;
  #covariance = 0;
  /** Part of the mean time that grows with the decodes; as much as does not until it is known. */
  #growing = 0.5;

  get known(): boolean {
    return this.#numSamples > 0;
  }

  get fixed(): number {
    return this.#meanMicros * (1 - this.#growing);
  }

  of(decodes: number): number {
    if (!this.known) return 0;
    return this.#meanMicros * (1 + this.#growing * (decodes / this.#meanDecodes - 1));
  }

  observe(decodes: number, micros: number): void {
    const expected = this.of(decodes);
    const warm = this.#numSamples >= WARM_UP;
    this.#numSamples++;
    if (!warm && (expected === 0 || micros < expected)) {
      this.#meanDecodes = decodes;
      this.#meanMicros = micros;
      return;
    }
    const sample = clamped(micros, expected);
    const more = decodes - this.#meanDecodes;
    const longer = sample - this.#meanMicros;
    const weight = warm ? DECODE_WEIGHT : 0;
    this.#meanDecodes += weight * more;
    this.#meanMicros += weight * longer;
    this.#variance = (1 - weight) * (this.#variance + weight * more * more);
    this.#covariance = (1 - weight) * (this.#covariance + weight * more * longer);
    // Numbers of decodes that hardly differ say nothing about the slope.
    if (this.#variance < 0.01 * this.#meanDecodes * this.#meanDecodes) return;
    const slope = this.#covariance / this.#variance;
    this.#growing = Math.min(1, Math.max(0, (slope * this.#meanDecodes) / this.#meanMicros));
  }
}

function clamped(sample: number, expected: number): number {
  return Math.min(expected * MOST_CHANGE, Math.max(expected / MOST_CHANGE, sample));
}
