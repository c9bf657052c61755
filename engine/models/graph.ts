/**
 * Records a model: its function runs once over values, and each call leaves an op on the tape. A method's contract is the
 * doc of its op in `kernels/core/src/op.rs`. Which weights there are, and of what shape, follows from the tape.
 */

import { KvEngineError } from "../errors.ts";
import type { KvPlace } from "./kv-groups.ts";
import type { Op, RopeStyle, Tape, ValueInfo } from "./tape.ts";

/** f32, `[rows, width]`; what the leading dimension follows is part of it. */
export interface Value extends Readonly<ValueInfo> {
  readonly id: number;
}

/** What a tape needs of a tensor of the checkpoint. */
export interface WeightShape {
  /** 1 for a vector. */
  readonly rows: number;
  readonly cols: number;
  /** Label of the op that reads it first. */
  readonly label: string;
  /** Vectors and rotation factors are read as F32 only. */
  readonly f32: boolean;
}

/** A matrix of a linear op: its name without `.weight`, and its outputs. */
export type Projection = readonly [name: string, width: number];

export interface Heads {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
}

export class Graph {
  readonly tape: Tape = { values: [], ops: [] };
  /** By tensor name. */
  readonly weights: Map<string, WeightShape> = new Map();
  readonly #has: (name: string) => boolean;
  readonly #scopes: string[] = [];

  /** `has` answers whether the checkpoint has a tensor: biases and the like are there in some models only. */
  constructor(has: (name: string) => boolean) {
    this.#has = has;
  }

  /** Names and labels inside `record` begin with `name` and a dot. */
  scope<T>(name: string, record: () => T): T {
    this.#scopes.push(name);
    const result = record();
    this.#scopes.pop();
    return result;
  }

  /** Whether the checkpoint has this tensor in this scope. */
  has(name: string): boolean {
    return this.#has(this.#name(name));
  }

  /** Whether the checkpoint has this tensor outside of every scope. */
  hasGlobal(name: string): boolean {
    return this.#has(name);
  }

  embed(name: string, vocabSize: number, width: number): Value {
    const out = this.#value("tokens", width);
    this.#push({
      op: "embed",
      label: this.#name(name),
      weight: this.#weight(name, vocabSize, width),
      out: out.id,
    });
    return out;
  }

  rmsNorm(name: string, x: Value, eps: number): Value {
    const out = this.#value(x.rows, x.width);
    this.#push({
      op: "rmsNorm",
      label: this.#name(name),
      x: x.id,
      weight: this.#vector(name, x.width),
      eps,
      out: out.id,
    });
    return out;
  }

  addRmsNorm(
    name: string,
    x: Value,
    residual: Value,
    eps: number,
  ): { readonly sum: Value; readonly out: Value } {
    this.#sameShape(name, x, residual);
    const sum = this.#value(x.rows, x.width);
    const out = this.#value(x.rows, x.width);
    const weight = this.#vector(name, x.width);
    this.#push({
      op: "addRmsNorm",
      label: this.#name(name),
      x: x.id,
      residual: residual.id,
      weight,
      eps,
      sum: sum.id,
      out: out.id,
    });
    return { sum, out };
  }

  add(name: string, x: Value, y: Value): Value {
    this.#sameShape(name, x, y);
    const out = this.#value(x.rows, x.width);
    this.#push({ op: "add", label: this.#name(name), x: x.id, y: y.id, out: out.id });
    return out;
  }

  /** Several projections of one input are one op. Biases are read where the checkpoint has them: for all or for none. */
  linear(name: string, x: Value, ...projections: readonly Projection[]): Value {
    const label = this.#name(name);
    const out = this.#value(
      x.rows,
      projections.reduce((sum, [, width]) => sum + width, 0),
    );
    const weights = projections.map(([part, width]) => this.#weight(part, width, x.width));
    const biased = projections.filter(([part]) => this.has(`${part}.bias`));
    if (biased.length !== 0 && biased.length !== projections.length) {
      const parts = projections.map(([part]) => this.#name(`${part}.bias`));
      throw new KvEngineError(
        "unsupported",
        `${label}: of ${parts.join(", ")} some are there; supported is all or none`,
        {
          subject: label,
        },
      );
    }
    const biases = biased.map(([part, width]) => this.#need(`${part}.bias`, 1, width, true));
    this.#push({ op: "linear", label, x: x.id, weights, biases, out: out.id });
    return out;
  }

  /** Rotates the first `numHeads` heads. `frequencies` is the name of a tensor with factors, where there is one. */
  rope(
    name: string,
    x: Value,
    {
      numHeads,
      headDim,
      dims,
      theta,
      style,
      frequencies,
    }: {
      readonly numHeads: number;
      readonly headDim: number;
      readonly dims: number;
      readonly theta: number;
      readonly style: RopeStyle;
      readonly frequencies?: string | undefined;
    },
  ): Value {
    const out = this.#value(x.rows, x.width);
    if (frequencies !== undefined)
      this.#record(frequencies, { rows: 1, cols: dims / 2, label: this.#name(name), f32: true });
    const op = {
      op: "rope",
      label: this.#name(name),
      x: x.id,
      numHeads,
      headDim,
      dims,
      theta,
      style,
      out: out.id,
    } as const;
    this.#push(frequencies === undefined ? op : { ...op, frequencies });
    return out;
  }

  storeKv(
    name: string,
    qkv: Value,
    { group, layer }: KvPlace,
    { numHeads, numKvHeads, headDim }: Heads,
  ): void {
    this.#push({
      op: "storeKv",
      label: this.#name(name),
      qkv: qkv.id,
      group,
      layer,
      numHeads,
      numKvHeads,
      headDim,
    });
  }

  attention(
    name: string,
    qkv: Value,
    { group, layer, window }: KvPlace,
    heads: Heads,
    scale: number,
  ): Value {
    const { numHeads, numKvHeads, headDim } = heads;
    const out = this.#value(qkv.rows, numHeads * headDim);
    const label = this.#name(name);
    const op = {
      op: "attention",
      label,
      qkv: qkv.id,
      group,
      layer,
      numHeads,
      numKvHeads,
      headDim,
      scale,
      out: out.id,
    } as const;
    this.#push(window === 0 ? op : { ...op, window });
    return out;
  }

  siluMul(name: string, x: Value): Value {
    const out = this.#value(x.rows, x.width / 2);
    this.#push({ op: "siluMul", label: this.#name(name), x: x.id, out: out.id });
    return out;
  }

  gatherSamples(name: string, x: Value): Value {
    const out = this.#value("samples", x.width);
    this.#push({ op: "gatherSamples", label: this.#name(name), x: x.id, out: out.id });
    return out;
  }

  sample(name: string, logits: Value): void {
    this.#push({ op: "sample", label: this.#name(name), logits: logits.id });
  }

  #name(name: string): string {
    return [...this.#scopes, name].join(".");
  }

  #value(rows: ValueInfo["rows"], width: number): Value {
    const id = this.tape.values.push({ rows, width }) - 1;
    return { id, rows, width };
  }

  #push(op: Op): void {
    this.tape.ops.push(op);
  }

  #weight(name: string, rows: number, cols: number): string {
    return this.#need(`${name}.weight`, rows, cols, false);
  }

  #vector(name: string, width: number): string {
    return this.#need(`${name}.weight`, 1, width, true);
  }

  #need(name: string, rows: number, cols: number, f32: boolean): string {
    const full = this.#name(name);
    this.#record(full, { rows, cols, label: full, f32 });
    return full;
  }

  /** A tensor may be read by several ops (a tied embedding), in one shape. */
  #record(name: string, shape: WeightShape): void {
    const before = this.weights.get(name) ?? shape;
    if (before.rows !== shape.rows || before.cols !== shape.cols) {
      throw new KvEngineError(
        "internal",
        `${shape.label} and ${before.label} read ${name} in different shapes`,
      );
    }
    this.weights.set(name, { ...before, f32: before.f32 || shape.f32 });
  }

  #sameShape(name: string, x: Value, y: Value): void {
    if (x.rows === y.rows && x.width === y.width) return;
    throw new KvEngineError(
      "internal",
      `${this.#name(name)}: operands are [${x.rows}, ${x.width}] and [${y.rows}, ${y.width}]; they must be alike`,
    );
  }
}
