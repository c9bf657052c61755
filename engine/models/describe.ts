/** What a model file holds, as plain data for `inspect`. Works for files that cannot be run, too. */

import type { GgufFile, GgufValue } from "./gguf.ts";
import type { LoadedModel } from "./registry.ts";

export interface TensorTypeSummary {
  readonly type: string;
  readonly supported: boolean;
  readonly count: number;
  readonly elements: number;
  readonly bytes: number;
}

export interface GgufDescription {
  readonly path: string;
  readonly version: number;
  /** Bytes of the file. */
  readonly size: number;
  readonly parameters: number;
  readonly tensorCount: number;
  /** Bytes of all tensors. */
  readonly tensorBytes: number;
  /** Most bytes first. */
  readonly tensorTypes: readonly TensorTypeSummary[];
  readonly tensors: readonly {
    readonly name: string;
    readonly type: string;
    readonly dims: readonly number[];
    readonly bytes: number;
  }[];
  /** Long strings and lists shortened. */
  readonly metadata: readonly { readonly key: string; readonly value: string }[];
}

export interface ModelDescription extends GgufDescription {
  readonly name: string;
  readonly architecture: string;
  readonly config: LoadedModel["config"];
  /** Elements of K and V that one token takes in all layers; times the backend's element size they are bytes. */
  readonly kvElementsPerToken: number;
  /** With elements of two bytes. */
  readonly kvBytesPerToken: number;
  readonly ops: number;
}

export function describeModel(model: LoadedModel): ModelDescription {
  const kvElementsPerToken = model.groups.reduce(
    (sum, { layers, numKvHeads, headDim }) => sum + layers * 2 * numKvHeads * headDim,
    0,
  );
  return {
    ...describeGguf(model.gguf),
    name: model.name,
    architecture: model.architecture,
    config: model.config,
    kvElementsPerToken,
    kvBytesPerToken: kvElementsPerToken * 2,
    ops: model.tape.ops.length,
  };
}

export function describeGguf(file: GgufFile): GgufDescription {
  const types = new Map<
    string,
    { type: string; supported: boolean; count: number; elements: number; bytes: number }
  >();
  for (const { type, elements, bytes } of file.tensors) {
    const sum = types.get(type.name) ?? {
      type: type.name,
      supported: type.supported,
      count: 0,
      elements: 0,
      bytes: 0,
    };
    sum.count += 1;
    sum.elements += elements;
    sum.bytes += bytes;
    types.set(type.name, sum);
  }
  const tensorTypes = [...types.values()].toSorted((a, b) => b.bytes - a.bytes);
  return {
    path: file.path,
    version: file.version,
    size: file.size,
    parameters: tensorTypes.reduce((sum, { elements }) => sum + elements, 0),
    tensorCount: file.tensors.length,
    tensorBytes: tensorTypes.reduce((sum, { bytes }) => sum + bytes, 0),
    tensorTypes,
    tensors: file.tensors.map(({ name, type, dims, bytes }) => ({
      name,
      type: type.name,
      dims,
      bytes,
    })),
    metadata: Array.from(file.metadata, ([key, value]) => ({ key, value: showValue(value) })),
  };
}

const MAX_SHOWN_CHARACTERS = 100;
const MAX_SHOWN_ELEMENTS = 6;

function showValue(value: GgufValue): string {
  if (typeof value === "string") return shorten(value);
  if (typeof value !== "object") return String(value);
  const elements = Array.from(value as ArrayLike<GgufValue>).slice(0, MAX_SHOWN_ELEMENTS);
  const shown = elements.map((element) =>
    typeof element === "object" ? `[${element.length}]` : showValue(element),
  );
  return value.length > elements.length
    ? `[${shown.join(", ")}, … ${value.length} in all]`
    : `[${shown.join(", ")}]`;
}

/** A string of a file as it may go to a terminal: on one line, no control characters. */
function shorten(text: string): string {
  const quoted = JSON.stringify(text.slice(0, MAX_SHOWN_CHARACTERS)).replaceAll(/\p{C}/gu, "?");
  return text.length > MAX_SHOWN_CHARACTERS ? `${quoted}…` : quoted;
}
