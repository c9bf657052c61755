/** Host pages with tiers below: `cpu-offload`, and what leaves host pages is found again in the tiers that were named. */

import type { OptionValues } from "./options.ts";
import CpuOffload from "./cpu-offload.ts";
import { Tiers } from "./tiers/tiers.ts";

export default class Tiered extends CpuOffload {
  static override readonly connectorName: string = "tiered";

  constructor(options: OptionValues) {
    super(options, new Tiers());
  }
}
