// Matrix instructions with the registers of the PTX ISA.
#pragma once
#include "multiprocessor.h"

namespace cuemu {

/// D += A * B of the tiles that the 32 lanes hold. Sums of floats are taken as hardware may take them: a few products at a time,
/// exactly, then cut off to f32; how many and which is the seed's. So no loop of fused multiply-adds has these bits.
void compute_mma(Call call, Fiber* lanes);

}  // namespace cuemu
