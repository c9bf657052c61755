//! Element types of weights, in GGUF's names. Sizes follow the GGUF specification (ggml `ggml_type`).

#[expect(non_camel_case_types, reason = "GGUF's names")]
/// How a weight tensor's bytes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "napi", napi_derive::napi(string_enum))]
pub enum DType {
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
    /// 4 bit, blocks of 32: f16 scale.
    Q4_0,
    /// 4 bit, blocks of 32: f16 scale and minimum.
    Q4_1,
    /// 5 bit, blocks of 32: f16 scale.
    Q5_0,
    /// 5 bit, blocks of 32: f16 scale and minimum.
    Q5_1,
    /// 8 bit, blocks of 32: f16 scale.
    Q8_0,
    /// 4 bit, super-blocks of 256.
    Q4_K,
    /// 5 bit, super-blocks of 256.
    Q5_K,
    /// 6 bit, super-blocks of 256.
    Q6_K,
}

impl DType {
    /// Every type there are kernels for.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// Elements in one block: a row's length must be a multiple of it.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// Bytes of a row of `len` elements; `len` must be a multiple of [`Self::block_len`].
    pub fn row_bytes(self, len: usize) -> usize {
        debug_assert_eq!(len % self.block_len(), 0);
        len / self.block_len() * self.block_bytes()
    }
}
