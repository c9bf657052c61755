/** The llama architecture (Llama, SmolLM, Mistral, and others that GGUF calls `llama`), with or without window layers. */

import { attention, gatedMlp } from "./blocks.ts";
import type { Graph } from "./graph.ts";
import type { KvPlace } from "./kv-groups.ts";
import type { ModelConfig } from "./model-config.ts";

export function llama(graph: Graph, config: ModelConfig, places: readonly KvPlace[]): void {
  const { numLayers, hiddenSize, vocabSize, rmsNormEps: eps } = config;
  let residual = graph.embed("token_embd", vocabSize, hiddenSize);
  let normed = graph.scope("blk.0", () => graph.rmsNorm("attn_norm", residual, eps));
  for (let layer = 0; layer < numLayers; layer++) {
    const last = layer === numLayers - 1;
    const mlp = graph.scope(`blk.${layer}`, () => {
      let attended = attention(graph, normed, config, places[layer]!, "interleaved");
      if (last) {
        // No later op looks at other tokens, so from here on only the rows that are sampled are computed.
        attended = graph.gatherSamples("gather_attn", attended);
        residual = graph.gatherSamples("gather_residual", residual);
      }
      const projected = graph.linear("attn_output", attended, ["attn_output", hiddenSize]);
      ({ sum: residual, out: normed } = graph.addRmsNorm("ffn_norm", projected, residual, eps));
      return gatedMlp(graph, normed, config);
    });
    const next = last ? "output_norm" : `blk.${layer + 1}.attn_norm`;
    ({ sum: residual, out: normed } = graph.addRmsNorm(next, mlp, residual, eps));
  }
  const logits = graph.linear("output", normed, [
    graph.has("output.weight") ? "output" : "token_embd",
    vocabSize,
  ]);
  graph.sample("sample", logits);
}
