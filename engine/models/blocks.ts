/** What models share: one function a block, in the words of the field. Weight names are GGUF's. */

import type { Graph, Value } from "./graph.ts";
import type { KvPlace } from "./kv-groups.ts";
import type { ModelConfig } from "./model-config.ts";
import type { RopeStyle } from "./tape.ts";

/** Attention without its output projection: `[rows, numHeads * headDim]`. Keys and values of each token are stored. */
export function attention(
  graph: Graph,
  x: Value,
  config: ModelConfig,
  place: KvPlace,
  style: RopeStyle,
): Value {
  const { numHeads, numKvHeads, headDim, ropeDims, ropeTheta, attentionScale } = config;
  const kvWidth = numKvHeads * headDim;
  const qkv = graph.linear(
    "attn_qkv",
    x,
    ["attn_q", numHeads * headDim],
    ["attn_k", kvWidth],
    ["attn_v", kvWidth],
  );
  const rotated = graph.rope("rope", qkv, {
    // The key heads follow the query heads and are rotated alike; the values behind them are not.
    numHeads: numHeads + numKvHeads,
    headDim,
    dims: ropeDims,
    theta: ropeTheta,
    style,
    frequencies: graph.hasGlobal(ROPE_FACTORS) ? ROPE_FACTORS : undefined,
  });
  graph.storeKv("store_kv", rotated, place, config);
  return graph.attention("attn", rotated, place, config, attentionScale);
}

/** Factors of the rotation's frequencies, one list for all layers (Llama 3.1 and later). */
const ROPE_FACTORS = "rope_freqs.weight";

/** `down(silu(gate(x)) * up(x))`. */
export function gatedMlp(
  graph: Graph,
  x: Value,
  { intermediateSize, hiddenSize }: ModelConfig,
): Value {
  const gateUp = graph.linear(
    "ffn_gate_up",
    x,
    ["ffn_gate", intermediateSize],
    ["ffn_up", intermediateSize],
  );
  return graph.linear("ffn_down", graph.siluMul("ffn_act", gateUp), ["ffn_down", hiddenSize]);
}
