/** In which orders things are tried: `emulator/config.h` says what each means. */

const SEEDS = 6;
const THREADS = ["first", "random", "greedy"] as const;
const STREAMS = ["lazy", "others", "random"] as const;

/** Every seed with every order of threads; the orders of streams take turns. */
export const SETTINGS: readonly string[] = Array.from({ length: SEEDS }, (_, seed) =>
  THREADS.map(
    (threads, i) =>
      `seed=${seed},threads=${threads},streams=${STREAMS[(seed + i) % 3]}` +
      (seed % 2 === 0 ? "" : ",driver=12080"),
  ),
).flat();

/** One for each order of streams, for what takes long; drivers with and without copies of many places in one call (12.8). */
export const FEW_SETTINGS: readonly string[] = [
  "seed=0,threads=first,streams=lazy",
  "seed=7,threads=greedy,streams=others,driver=12080",
  "seed=8,threads=random,streams=random,driver=13000",
];
