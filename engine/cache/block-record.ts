/** What is known of a block is a run of words, so that looking at a block is one cache line. */

export const WORDS = 4;
/** Neighbours in the free queue, as ids. */
export const NEXT = 0;
export const PREVIOUS = 1;
export const REFERENCES = 2;
/** Twice the number of times that the block was handed out, and one more while it has a hash. */
export const GENERATION = 3;

/** The bit of `GENERATION` that says that the block has a hash. */
export const HASHED = 1;
/** `NEXT` of a block that is not in the free queue. */
export const NOT_QUEUED = -1;
