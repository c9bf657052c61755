/** The op set and what goes with it, as the native module declares it. */

import type * as native from "../../kernels/binding/index.js";

export type DType = native.DType;
export type KvGroup = native.KvGroup;
export type Op = native.Op;
export type RopeStyle = native.RopeStyle;
export type TensorSource = native.TensorSource;
export type ValueInfo = native.ValueInfo;

/** A model's program before it is compiled: values and the ops over them, in order. */
export interface Tape {
  readonly values: ValueInfo[];
  readonly ops: Op[];
}
