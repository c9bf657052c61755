import { expect, test } from "bun:test";
import { TokenStream } from "../../../engine/token-stream.ts";
import { UntoldReaders } from "../../../engine/untold-readers.ts";

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("readers are told a few in each turn of the event loop, each once, and that all were is told last", async () => {
  const order: (number | string)[] = [];
  const readers = new UntoldReaders(() => order.push("all"));
  const streams = Array.from({ length: 150 }, (_, i) => {
    const stream = new TokenStream(() => {});
    stream.onEvents(() => order.push(i));
    return stream;
  });
  for (const stream of [...streams, ...streams]) readers.add(stream);
  readers.tellSoon();
  readers.tellSoon();
  const counts: number[] = [];
  for (let i = 0; i < 3; i++) {
    await turn();
    counts.push(order.length);
    // Who has more in the meantime waits behind the others.
    if (i === 0) readers.add(streams[0] as TokenStream);
  }
  expect(counts).toEqual([64, 128, 152]);
  expect(order).toEqual([...streams.keys(), 0, "all"]);
  readers.tellSoon();
  await turn();
  expect(order.slice(152)).toEqual(["all"]);
});
