/**
 * A real process with the real HTTP side, engine thread and connectors, over an engine that needs no model. Takes connectors as its
 * arguments; ends as `kvengine serve` does when its engine has died.
 */

import { errorText, exitCodeOf } from "../../cli/output.ts";
import { connectEngine } from "../../engine/engine-client.ts";
import { createApp, serveHttp, stopWithin } from "../../engine/server/server.ts";
import { ByteTokenizer, EOS_ID } from "./byte-tokenizer.ts";
import { ENGINE_CONFIG } from "./engine-config.ts";

const kvConnector = process.argv.slice(process.argv.indexOf("--") + 1);
const worker = new Worker(new URL("./fake-engine-worker.ts", import.meta.url));
const client = await connectEngine(
  worker,
  { ...ENGINE_CONFIG, modelPath: "served", kvConnector, kvConnectorHangTimeout: 0.5 },
  (level, line) => process.stderr.write(`${level}: ${line}\n`),
);
const app = createApp({
  client,
  model: { name: "m", aliases: [] },
  tokenizer: new ByteTokenizer(),
  special: { bosToken: "", eosToken: "", endIds: [EOS_ID] },
  chatTemplate: undefined,
  version: "0.0.0",
});
const server = serveHttp(app, { host: "127.0.0.1", port: 0 });
client.onFatal((thrown) => {
  process.stderr.write(`${errorText(thrown)}\n`);
  void stopWithin(server, 10_000).then(() => process.exit(exitCodeOf(thrown)));
});
process.stdout.write(`m is served on ${server.url} (ready)\n`);
