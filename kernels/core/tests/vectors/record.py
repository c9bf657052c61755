"""Records de-quantised blocks from the `gguf` Python package, which the Rust side must equal to the last bit.

    python record.py        (needs the packages gguf and numpy; writes TYPE.bin beside itself)

A file holds the number of encoded bytes (u32, little-endian), those bytes, then the f32 elements. Blocks are random bits
with the f16 scales replaced by finite ones, zero, negative and subnormal among them.
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

BLOCKS = 24
# Block bytes and where f16 scales lie in a block.
TYPES = {
    Type.Q4_0: (18, [0]),
    Type.Q4_1: (20, [0, 2]),
    Type.Q5_0: (22, [0]),
    Type.Q5_1: (24, [0, 2]),
    Type.Q8_0: (34, [0]),
    Type.Q4_K: (144, [0, 2]),
    Type.Q5_K: (176, [0, 2]),
    Type.Q6_K: (210, [208]),
}


def write(kind: Type, encoded: np.ndarray) -> None:
    decoded = dequantize(encoded, kind).astype("<f4").ravel()
    path = Path(__file__).parent / f"{kind.name}.bin"
    path.write_bytes(np.uint32(encoded.size).tobytes() + encoded.tobytes() + decoded.tobytes())


def main() -> None:
    random = np.random.default_rng(20)
    for kind, (size, scales) in TYPES.items():
        blocks = random.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
        for at in scales:
            values = random.normal(0, 0.1, BLOCKS).astype(np.float16)
            values[:5] = [0.0, -0.0, 6e-8, -3.1e-5, 65504.0]
            random.shuffle(values)
            blocks[:, at : at + 2] = values.view(np.uint8).reshape(BLOCKS, 2)
        write(kind, blocks)
    floats = random.normal(0, 1, 64).astype("<f4")
    write(Type.F32, floats.view(np.uint8))
    halves = np.arange(0, 1 << 16, 37, dtype="<u2")
    write(Type.F16, halves[~np.isnan(halves.view(np.float16))].view(np.uint8))
    shorts = np.arange(0, 1 << 16, 37, dtype="<u2")
    as_floats = (shorts.astype(np.uint32) << 16).view(np.float32)
    write(Type.BF16, shorts[~np.isnan(as_floats)].view(np.uint8))


if __name__ == "__main__":
    main()
