/** `kvengine/connector` for outside modules of this thread: the very module that the engine uses, so a connector's base class is ours. */

import * as connector from "../../connectors/connector.ts";
import { plugin } from "bun";

/** What outside modules import. */
export const INTERFACE_MODULE = "kvengine/connector";

let isRegistered = false;

/** Once for each thread; later calls do nothing. */
export function registerInterfaceModule(): void {
  if (isRegistered) return;
  isRegistered = true;
  plugin({
    name: INTERFACE_MODULE,
    setup(build): void {
      build.module(INTERFACE_MODULE, () => ({ exports: { ...connector }, loader: "object" }));
    },
  });
}
