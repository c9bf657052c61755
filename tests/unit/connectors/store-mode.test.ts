import { describe, expect, test } from "bun:test";
import { AutoMode } from "../../../connectors/store-mode.ts";

/** Stores `blocks` blocks, of which as many percent are read again and lost as said. */
function pass(mode: AutoMode, blocks: number, reusedPercent: number, lostPercent: number): void {
  mode.reused((blocks * reusedPercent) / 100);
  mode.outrun((blocks * lostPercent) / 100);
  mode.stored(blocks);
}

describe("auto mode", () => {
  test("is eager before anything was measured", () => {
    expect(new AutoMode(() => 1).mode).toBe("eager");
  });

  test("stays eager, whatever is read again, while a copy costs at most 2 % of computing", () => {
    const mode = new AutoMode(() => 0.02);
    for (let i = 0; i < 10; i++) pass(mode, 512, 0, 0);
    expect(mode.mode).toBe("eager");
  });

  test("becomes lazy when copies cost more and less than 5 % of them are read again", () => {
    const mode = new AutoMode(() => 0.021);
    pass(mode, 511, 4, 0);
    expect(mode.mode).toBe("eager");
    pass(mode, 1, 4, 0);
    expect(mode.mode).toBe("lazy");
  });

  test("costly copies that are read again stay eager", () => {
    const mode = new AutoMode(() => 1);
    pass(mode, 512, 6, 0);
    expect(mode.mode).toBe("eager");
  });

  test("a lazy one becomes eager when copies are read again and blocks are lost, not by one of the two", () => {
    const lazy = (): AutoMode => {
      const mode = new AutoMode(() => 1);
      pass(mode, 512, 0, 0);
      return mode;
    };
    const [both, onlyRead, onlyLost] = [lazy(), lazy(), lazy()];
    pass(both, 512, 20, 5);
    pass(onlyRead, 512, 20, 0);
    pass(onlyLost, 512, 0, 5);
    expect([both.mode, onlyRead.mode, onlyLost.mode]).toEqual(["eager", "lazy", "lazy"]);
  });

  test("goes back to eager when copies have become cheap", () => {
    let cost = 1;
    const mode = new AutoMode(() => cost);
    pass(mode, 512, 0, 0);
    cost = 0.01;
    pass(mode, 512, 0, 0);
    expect(mode.mode).toBe("eager");
  });

  test("asks for the cost once in 512 blocks at most", () => {
    let asked = 0;
    const mode = new AutoMode(() => ++asked);
    for (let i = 0; i < 1023; i++) mode.stored(1);
    expect(asked).toBe(2);
  });
});
