/** Matches what a tape needs with what a GGUF file holds: where each tensor lies, with the right shape and type. */

import { KvEngineError } from "../errors.ts";
import type { GgufFile, GgufTensor } from "./gguf.ts";
import { SUPPORTED_TYPE_NAMES } from "./ggml-types.ts";
import type { WeightShape } from "./graph.ts";
import type { DType, TensorSource } from "./tape.ts";

/**
 * Sources of the tensors that are read, in the order of the tape. Throws `bad_model` for a tensor that is missing or has
 * another shape, `unsupported` for a type without a kernel and for a tensor that the architecture's function does not
 * read: the model would run as something it is not.
 */
export function locateTensors(
  file: GgufFile,
  weights: ReadonlyMap<string, WeightShape>,
): TensorSource[] {
  const byName = new Map(file.tensors.map((tensor) => [tensor.name, tensor]));
  for (const tensor of file.tensors) if (!weights.has(tensor.name)) throw unread(file, tensor);
  return Array.from(weights, ([name, shape]) => {
    const tensor = byName.get(name);
    if (tensor === undefined) {
      throw new KvEngineError(
        "bad_model",
        `${file.path}: tensor ${name} is missing; ${shape.label} needs it`,
        { subject: name },
      );
    }
    return toSource(file, tensor, shape);
  });
}

function toSource(file: GgufFile, tensor: GgufTensor, shape: WeightShape): TensorSource {
  const { name, type, dims, offset, bytes } = tensor;
  const [cols = 1, rows = 1, ...others] = dims;
  if (cols !== shape.cols || rows !== shape.rows || others.some((dim) => dim !== 1)) {
    throw new KvEngineError(
      "bad_model",
      `${file.path}: tensor ${name} is [${dims.join(", ")}]; ${shape.label} needs [${shape.cols}, ${shape.rows}]`,
      { subject: name },
    );
  }
  if (!type.supported || (shape.f32 && type.name !== "F32")) {
    const supported = shape.f32 ? "F32" : SUPPORTED_TYPE_NAMES.join(", ");
    throw new KvEngineError(
      "unsupported",
      `${file.path}: tensor ${name} has type ${type.name}; supported is ${supported}`,
      {
        subject: name,
        hint: "take another quantisation of the model, Q4_K_M or Q8_0 for instance",
      },
    );
  }
  return { name, dtype: type.name as DType, rows, cols, file: 0, offset, bytes };
}

function unread(file: GgufFile, { name }: GgufTensor): KvEngineError {
  const architecture = file.metadata.get("general.architecture");
  return new KvEngineError(
    "unsupported",
    `${file.path}: tensor ${name} is not one that ${String(architecture)} models have here: the file needs a feature that is missing`,
    { subject: name },
  );
}
