/** The calls that the engine makes into a connector's code, by name and number. */

/** `import` and `constructor` come before there is a connector; the others are its methods. */
export const HOOKS = [
  "import",
  "constructor",
  "bindGpuBlockPool",
  "onSchedulerReady",
  "onNewRequest",
  "findBlocks",
  "updateStateAfterAlloc",
  "buildConnectorMeta",
  "updateConnectorOutput",
  "requestFinished",
  "onPreempted",
  "onMemoryPressure",
  "takeEvents",
  "resetCache",
  "stats",
  "shutdown",
] as const;

export type Hook = (typeof HOOKS)[number];

/** A hook's number is its place in `HOOKS`. */
export const HOOK_NUMBER: Readonly<Record<Hook, number>> = Object.fromEntries(
  HOOKS.map((hook, number) => [hook, number]),
) as Record<Hook, number>;
