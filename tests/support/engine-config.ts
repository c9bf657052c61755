/** The engine's options at their defaults, for tests that start a model. */

import type { EngineConfig } from "../../engine/config.ts";

/** `KVENGINE_TEST_DEVICE=cuda` has them compute on a GPU, real or emulated. */
export const TEST_DEVICE: string = process.env["KVENGINE_TEST_DEVICE"] || "cpu";

export const ENGINE_CONFIG: Omit<EngineConfig, "modelPath"> = {
  device: TEST_DEVICE,
  backend: "auto",
  isa: "auto",
  threads: 1,
  maxNumSeqs: 16,
  maxNumBatchedTokens: 600,
  maxModelLen: 0,
  blockSize: 16,
  numGpuBlocksOverride: 400,
  kvCacheMemory: 0,
  kvCacheDtype: "auto",
  gpuMemoryUtilization: 0.9,
  schedulingPolicy: "fcfs",
  tpotSlo: 0,
  enablePrefixCaching: true,
  explain: true,
  prefixHashSeed: "0",
  speculative: "none",
  speculativeTokens: 8,
  speculativeNgram: [2, 4],
  kvConnector: [],
  kvConnectorOptions: "",
  kvConnectorHoldTtl: 30,
  kvConnectorMaxHeld: 0,
  kvConnectorRecallMs: 1000,
  kvConnectorLookupTimeout: 0.25,
  kvConnectorLoadTimeout: 5,
  kvConnectorSlowHook: 1,
  kvConnectorHangTimeout: 10,
  kvOffloadLink: 0,
  kvOffloadStoreShare: 0.5,
  kvDiskPath: "",
  kvDiskSize: 2 ** 30,
  kvDiskTtl: 0,
  kvDiskDirect: true,
  kvDiskLink: 0,
  kvDiskCompress: "off",
  kvPinBudget: 0.25,
  kvOffloadSize: 0,
};
