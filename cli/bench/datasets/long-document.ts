/** `long-document`: questions about a few long documents, each asked of several times: what a KV cache beyond the device is for. */

import { conversation, question } from "./conversation.ts";
import type { GeneratedDataset } from "./dataset.ts";
import { shared } from "./pieces.ts";
import { shuffled, streams } from "./random-numbers.ts";

export const LONG_DOCUMENT: GeneratedDataset = {
  from: "options",
  options: [
    "long-document-num-documents",
    "long-document-document-len",
    "long-document-question-len",
    "long-document-output-len",
    "long-document-repeat-count",
    "long-document-repeat-mode",
  ],
  create({ options, seed, writer }) {
    const count = options.longDocumentNumDocuments;
    const family = streams(seed, "documents");
    const documents = Array.from({ length: count }, (_, i) => {
      const questions = streams(seed, `questions of document ${i}`);
      return {
        text: shared(writer.opening(family, i, options.longDocumentDocumentLen)),
        question: (use: number) =>
          writer.following(questions, use, options.longDocumentQuestionLen),
      };
    });
    const repeats = options.longDocumentRepeatCount;
    return documentOrder(count, repeats, options.longDocumentRepeatMode, seed).map((use) => {
      const [index, round] = [use % count, Math.floor(use / count)];
      const document = documents[index] as (typeof documents)[number];
      return conversation(writer, {
        id: `document-${index}-${round}`,
        turns: [
          {
            messages: question(document.text, document.question(round)),
            maxTokens: options.longDocumentOutputLen,
          },
        ],
        ignoreEos: options.ignoreEos,
      });
    });
  },
};

/** Uses in order: use `i + count * round` is document `i` for the `round`th time. The modes are those of vLLM's script. */
function documentOrder(
  count: number,
  repeats: number,
  mode: "tile" | "interleave" | "random",
  seed: number,
): number[] {
  switch (mode) {
    case "tile":
      return Array.from({ length: count * repeats }, (_, use) => use);
    case "interleave":
      return Array.from(
        { length: count * repeats },
        (_, at) => Math.floor(at / repeats) + count * (at % repeats),
      );
    case "random":
      return Array.from(shuffled(count * repeats, streams(seed, "document order")(0)));
  }
}
