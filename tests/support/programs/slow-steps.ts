/**
 * A connector that holds every step up for `ms`, asleep: with the backend `null` it makes a server whose pace is known and costs no
 * processor time. Run: `kvengine serve --backend null --kv-connector tests/support/programs/slow-steps.ts`.
 */

import { type ConnectorOptions, KvConnector, type OptionValues } from "kvengine/connector";

export default class SlowSteps extends KvConnector {
  static readonly connectorName: string = "slow-steps";
  static readonly apiVersion: number = 1;
  static readonly keepsPages: boolean = false;
  static readonly options: ConnectorOptions = {
    ms: {
      type: "number",
      default: 10,
      min: 0,
      max: 500,
      unit: "ms",
      help: "How long a step is held up",
    },
  };
  readonly #ms: number;
  readonly #never = new Int32Array(new SharedArrayBuffer(4));

  constructor(options: OptionValues) {
    super();
    this.#ms = Number(options["ms"]);
  }

  override buildConnectorMeta({
    numScheduledTokens,
  }: {
    readonly numScheduledTokens: number;
  }): void {
    if (numScheduledTokens > 0) Atomics.wait(this.#never, 0, 0, this.#ms);
  }
}
