import { expect, test } from "bun:test";
import { Circuit } from "../../../../connectors/tiers/circuit.ts";

interface Lab {
  now: number;
  readonly lines: string[];
  readonly circuit: Circuit;
}

function createLab(failures: number): Lab {
  const lines: string[] = [];
  const lab: Lab = {
    now: 0,
    lines,
    circuit: new Circuit({
      what: "loads from tier disk",
      failures,
      now: () => lab.now,
      warn: (line) => lines.push(`warn: ${line}`),
      info: (line) => lines.push(`info: ${line}`),
    }),
  };
  return lab;
}

function fail(circuit: Circuit, times: number): void {
  for (let i = 0; i < times; i++) circuit.failed(`no ${i}`);
}

test("opens after so many failures in a row, and says so once", () => {
  const { circuit, lines } = createLab(3);
  fail(circuit, 2);
  circuit.worked();
  fail(circuit, 2);
  expect([circuit.isOpen, circuit.allows(9)]).toEqual([false, 9]);
  fail(circuit, 1);
  expect([circuit.isOpen, circuit.allows(9), circuit.opensAt]).toEqual([true, 0, 1000]);
  // Calls that were under way.
  fail(circuit, 5);
  expect(circuit.opensAt).toBe(1000);
  expect(lines).toEqual([
    "warn: loads from tier disk are switched off after 3 failures in a row, the last one: no 0",
  ]);
});

test("lets one call try at a time when its time is over, and closes when that works", () => {
  const lab = createLab(1);
  const { circuit } = lab;
  fail(circuit, 1);
  lab.now = 999;
  expect(circuit.allows(4)).toBe(0);
  lab.now = 1000;
  expect([circuit.allows(4), circuit.allows(0)]).toEqual([1, 0]);
  circuit.begun();
  expect(circuit.allows(4)).toBe(0);
  // It told nothing: another one may try.
  circuit.passed();
  expect(circuit.allows(4)).toBe(1);
  circuit.begun();
  circuit.worked();
  expect([circuit.isOpen, circuit.allows(4)]).toEqual([false, 4]);
  expect(lab.lines.at(-1)).toBe("info: loads from tier disk work again");
});

test("stays open for twice as long each time, up to a minute, and says nothing more", () => {
  const lab = createLab(1);
  const { circuit, lines } = lab;
  const waits: number[] = [];
  for (let i = 0; i < 9; i++) {
    circuit.begun();
    fail(circuit, 1);
    waits.push((circuit.opensAt ?? 0) - lab.now);
    lab.now = circuit.opensAt ?? 0;
  }
  expect(waits.map((ms) => ms / 1000)).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60]);
  expect(lines.length).toBe(1);
  circuit.worked();
  fail(circuit, 1);
  expect((circuit.opensAt ?? 0) - lab.now).toBe(1000);
});
