/** The connector that does nothing: every hook's default. It shows what the interface itself costs. */

import { KvConnector } from "./connector.ts";
import type { ConnectorOptions } from "./options.ts";

export default class NullConnector extends KvConnector {
  static readonly connectorName = "null";
  static readonly apiVersion = 1;
  static readonly options: ConnectorOptions = {};
  static readonly keepsPages: boolean = false;
}
