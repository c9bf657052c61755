/**
 * What a hook costs behind its guard: `bun tests/measure/connector-hooks.ts`. Nanoseconds a call of the engine's thread, of the null
 * connector, and of the shared word's two writes alone.
 */

import NullConnector from "../../connectors/null.ts";
import { createEmptyEngine } from "../../connectors/empty-engine.ts";
import { ConnectorHost } from "../../engine/connectors/connector-host.ts";
import { createHookWord, HookTurn } from "../../engine/connectors/hook-turn.ts";
import { EMPTY_PLAN, HASHES, OUTPUT, RecordedMarks, REQUEST } from "../support/connector-world.ts";

const CALLS = 1_000_000;
const ROUNDS = 5;

function nanosecondsOf(body: () => void): number {
  const rounds = Array.from({ length: ROUNDS }, () => {
    const start = performance.now();
    for (let i = 0; i < CALLS; i++) body();
    return ((performance.now() - start) / CALLS) * 1e6;
  });
  return rounds.sort((a, b) => a - b)[ROUNDS >> 1] as number;
}

function hostOf(count: number): ConnectorHost {
  const now = (): number => performance.now();
  const connectors = Array.from({ length: count }, (_, i) => ({
    name: `null-${i}`,
    connector: new NullConnector(),
  }));
  const turn = new HookTurn(createHookWord());
  const host = new ConnectorHost(connectors, { turn, slowHookMs: 1000, now, log: () => {} });
  host.start({
    viewOf: (_place, name) => createEmptyEngine(name, now).view,
    contextOf: (_place, own) => ({ ...createEmptyEngine(own.name, now).context, ...own }),
    onDisabled: (place) => {
      throw new Error(`connector ${place} was disabled`);
    },
    onShutdown: () => {},
  });
  return host;
}

const marks = new RecordedMarks();
for (const count of [0, 1, 3]) {
  const host = hostOf(count);
  const figures = {
    buildMeta: nanosecondsOf(() => host.buildMeta(OUTPUT)),
    findBlocks: nanosecondsOf(() => host.findBlocks(REQUEST, HASHES, marks)),
    afterAlloc: nanosecondsOf(() => host.afterAlloc(REQUEST, () => EMPTY_PLAN)),
    takeEvents: nanosecondsOf(() => host.takeEvents()),
    takeSamples: nanosecondsOf(() => host.takeSamples(false)),
  };
  const cells = Object.entries(figures).map(([name, ns]) => `${name} ${ns.toFixed(0)} ns`);
  process.stdout.write(`${count} null connectors: ${cells.join(", ")}\n`);
}
const turn = new HookTurn();
const writes = nanosecondsOf(() => {
  turn.begin(0, "stats");
  turn.end();
});
const plain = new NullConnector();
process.stdout.write(`begin and end of a turn: ${writes.toFixed(1)} ns\n`);
process.stdout.write(
  `the hook itself: ${nanosecondsOf(() => plain.buildConnectorMeta(OUTPUT)).toFixed(1)} ns\n`,
);
