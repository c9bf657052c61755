/** Which servers are measured: by `--base-url`, by `--ab`, by `--peer`, or kvengine itself. */

import type { OptionValues } from "../../../engine/config.ts";
import { KvEngineError } from "../../../engine/errors.ts";
import {
  kvengineServer,
  parsePeers,
  parseSide,
  peerServer,
  runningServer,
  type Side,
} from "../servers/side.ts";
import { splitWords } from "../servers/words.ts";

type SideValues = Pick<OptionValues, "ab" | "baseUrl" | "peer" | "serverArgs" | "label">;

/**
 * At least one; several = they are compared. Throws `bad_config`.
 * @param model file of the model; undefined = none was named.
 */
export function chooseSides(values: SideValues, model: string | undefined): readonly Side[] {
  const peers = parsePeers(values.peer);
  const args = splitWords(values.serverArgs, "--server-args");
  if (values.ab.length > 0) {
    refuse(values.baseUrl !== "", "--base-url", 'give the address as a side: --ab "a: http://…"');
    refuse(args.length > 0, "--server-args", "give the flags with each side of --ab");
    refuse(values.label !== "", "--label", "the sides of --ab have names of their own");
    const sides = values.ab.map((text) => parseSide(text, model, peers));
    refuse(sides.length < 2, "--ab", "a comparison needs two sides: give --ab twice");
    const labels = new Set(sides.map(({ label }) => label));
    refuse(labels.size < sides.length, "--ab", "two sides have the same name");
    return sides;
  }
  if (values.baseUrl !== "") {
    refuse(peers.size > 0, "--peer", "a peer is started, and --base-url is a server that runs");
    refuse(args.length > 0, "--server-args", "a server that runs has its flags already");
    const server = runningServer(values.baseUrl, "--base-url");
    return [{ label: values.label || "server", server }];
  }
  refuse(peers.size > 1, "--peer", "several peers are compared with --ab");
  const [peer] = peers.keys();
  const server =
    peer === undefined ? kvengineServer(model, args) : peerServer(peer, model, args, peers);
  return [{ label: values.label || (peer ?? "kvengine"), server }];
}

function refuse(wrong: boolean, flag: string, why: string): void {
  if (wrong) throw new KvEngineError("bad_config", `${flag}: ${why}`, { subject: flag, hint: why });
}
