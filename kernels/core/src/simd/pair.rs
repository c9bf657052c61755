//! Sixteen lanes as two vectors of eight.

use super::{LANES, Simd, WIDE};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Pair<S>(pub S);

#[inline(always)]
fn halves<T>(from: &[T; WIDE]) -> &[[T; LANES]] {
    from.as_chunks().0
}

impl<S: Simd> Simd<WIDE> for Pair<S> {
    const REGISTERS: usize = S::REGISTERS / 2;
    type V = [S::V; 2];
    type Mask = [S::Mask; 2];
    type Words = [S::Words; 2];
    const QUAD_BIAS: i32 = S::QUAD_BIAS;

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        self.0.vectorize(f)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [self.0.splat(x); 2]
    }
    #[inline(always)]
    fn load(self, from: &[f32; WIDE]) -> Self::V {
        let from = halves(from);
        [self.0.load(&from[0]), self.0.load(&from[1])]
    }
    #[inline(always)]
    fn store(self, to: &mut [f32; WIDE], v: Self::V) {
        for (to, v) in to.as_chunks_mut().0.iter_mut().zip(v) {
            self.0.store(to, v);
        }
    }
    #[inline(always)]
    fn prefetch<T>(self, at: &T) {
        self.0.prefetch(at);
    }
    #[inline(always)]
    fn load_half(self, from: &[u16; WIDE]) -> Self::V {
        let from = halves(from);
        [self.0.load_half(&from[0]), self.0.load_half(&from[1])]
    }
    #[inline(always)]
    fn store_half(self, to: &mut [u16; WIDE], v: Self::V) {
        for (to, v) in to.as_chunks_mut().0.iter_mut().zip(v) {
            self.0.store_half(to, v);
        }
    }
    #[inline(always)]
    fn load_words(self, from: &[u32; WIDE]) -> Self::Words {
        let from = halves(from);
        [self.0.load_words(&from[0]), self.0.load_words(&from[1])]
    }
    #[inline(always)]
    fn load_firsts(self, from: &[u32; WIDE]) -> Self::Words {
        let from = halves(from);
        [self.0.load_firsts(&from[0]), self.0.load_firsts(&from[1])]
    }
    #[inline(always)]
    fn splat_word(self, pair: u32) -> Self::Words {
        [self.0.splat_word(pair); 2]
    }
    #[inline(always)]
    fn store_pairs(self, to: &mut [u32; WIDE], low: Self::V, high: Self::V) {
        for (to, v) in to.as_chunks_mut().0.iter_mut().zip([low, high]) {
            self.0.store_pairs(to, v[0], v[1]);
        }
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u16; WIDE]) -> Self::Words {
        let from = halves(from);
        [self.0.load_bytes(&from[0]), self.0.load_bytes(&from[1])]
    }
    #[inline(always)]
    fn store_shorts(self, to: &mut [u32; WIDE], low: Self::V, high: Self::V) {
        for (to, v) in to.as_chunks_mut().0.iter_mut().zip([low, high]) {
            self.0.store_shorts(to, v[0], v[1]);
        }
    }
    #[inline(always)]
    fn floats(self, v: Self::Words) -> Self::V {
        v.map(|v| self.0.floats(v))
    }
    #[inline(always)]
    fn dot_quads(self, a: Self::Words, b: Self::Words, c: Self::Words) -> Self::Words {
        [self.0.dot_quads(a[0], b[0], c[0]), self.0.dot_quads(a[1], b[1], c[1])]
    }
    #[inline(always)]
    fn dot_shorts(self, a: Self::Words, b: Self::Words, c: Self::Words) -> Self::Words {
        [self.0.dot_shorts(a[0], b[0], c[0]), self.0.dot_shorts(a[1], b[1], c[1])]
    }
    #[inline(always)]
    fn dot_pairs(self, a: Self::Words, b: Self::Words, c: Self::V) -> Self::V {
        [self.0.dot_pairs(a[0], b[0], c[0]), self.0.dot_pairs(a[1], b[1], c[1])]
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.add(a[0], b[0]), self.0.add(a[1], b[1])]
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.sub(a[0], b[0]), self.0.sub(a[1], b[1])]
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.mul(a[0], b[0]), self.0.mul(a[1], b[1])]
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.div(a[0], b[0]), self.0.div(a[1], b[1])]
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        [self.0.fma(a[0], b[0], c[0]), self.0.fma(a[1], b[1], c[1])]
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.max(a[0], b[0]), self.0.max(a[1], b[1])]
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        [self.0.min(a[0], b[0]), self.0.min(a[1], b[1])]
    }
    #[inline(always)]
    fn round(self, v: Self::V) -> Self::V {
        v.map(|v| self.0.round(v))
    }
    #[inline(always)]
    fn power_of_two(self, n: Self::V) -> Self::V {
        n.map(|n| self.0.power_of_two(n))
    }
    #[inline(always)]
    fn lanes(self, from: i32, to: i32) -> Self::Mask {
        let half = LANES as i32;
        [self.0.lanes(from, to), self.0.lanes(from - half, to - half)]
    }
    #[inline(always)]
    fn select(self, mask: Self::Mask, a: Self::V, b: Self::V) -> Self::V {
        [self.0.select(mask[0], a[0], b[0]), self.0.select(mask[1], a[1], b[1])]
    }
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        self.0.sum(self.0.add(v[0], v[1]))
    }
    #[inline(always)]
    fn largest(self, v: Self::V) -> f32 {
        self.0.largest(self.0.max(v[0], v[1]))
    }
    #[inline(always)]
    fn magnitude(self, block: &[f32; 32]) -> u32 {
        self.0.magnitude(block)
    }
    #[inline(always)]
    fn round_block(self, block: &[f32; 32], by: f32) -> [i8; 32] {
        self.0.round_block(block, by)
    }
    #[inline(always)]
    fn sum_halves(self, block: &[i8; 32]) -> [i32; 2] {
        self.0.sum_halves(block)
    }
}
