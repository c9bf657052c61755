/** `--length-scale` and `--slowdown-factor`: a workload made for larger machines, brought to this one. */

/** At least 1. */
export function scaledLength(length: number, scale: number): number {
  return Math.max(1, Math.round(length * scale));
}

/** A prompt in blocks. */
export interface BlockLengths {
  readonly blockSize: number;
  /** Tokens that the hashes name; at most as many blocks as there are. */
  readonly named: number;
  /** Tokens after those, which no other prompt has. */
  readonly unnamed: number;
}

/** The same number of blocks, each shorter or longer, so that as many are shared as before. */
export function scaledBlocks(lengths: BlockLengths, scale: number): BlockLengths {
  if (scale === 1) return lengths;
  const { blockSize, named, unnamed } = lengths;
  const size = scaledLength(blockSize, scale);
  const numBlocks = Math.ceil(named / blockSize);
  const least = (numBlocks - 1) * size + 1;
  return {
    blockSize: size,
    named:
      numBlocks === 0 ? 0 : Math.min(Math.max(least, Math.round(named * scale)), numBlocks * size),
    unnamed: unnamed === 0 ? 0 : scaledLength(unnamed, scale),
  };
}
