//! Weights to f32. Layouts and arithmetic follow ggml's block formats (`ggml-quants.c`); results are equal to the last
//! bit to those of the `gguf` Python package (`gguf/quants.py`), which `tests/vectors` records.

use crate::dtype::DType;
use crate::error::{Failure, Result};
use half::{bf16, f16};

/// De-quantises whole blocks: `bytes` has exactly `dtype.row_bytes(out.len())` bytes.
pub fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    debug_assert_eq!(bytes.len(), dtype.row_bytes(out.len()));
    match dtype {
        DType::F32 => blocks(bytes, out, |b: &[u8; 4], out: &mut [f32; 1]| out[0] = f32::from_le_bytes(*b)),
        DType::F16 => blocks(bytes, out, |b: &[u8; 2], out: &mut [f32; 1]| out[0] = f16_at(b, 0)),
        DType::BF16 => {
            blocks(bytes, out, |b: &[u8; 2], out: &mut [f32; 1]| out[0] = bf16::from_le_bytes(*b).to_f32());
        }
        DType::Q4_0 => blocks(bytes, out, q4_0),
        DType::Q4_1 => blocks(bytes, out, q4_1),
        DType::Q5_0 => blocks(bytes, out, q5_0),
        DType::Q5_1 => blocks(bytes, out, q5_1),
        DType::Q8_0 => blocks(bytes, out, q8_0),
        DType::Q4_K => blocks(bytes, out, q4_k),
        DType::Q5_K => blocks(bytes, out, q5_k),
        DType::Q6_K => blocks(bytes, out, q6_k),
    }
}

/// All elements of any number of whole blocks.
///
/// # Errors
/// `bad_model` when the bytes are not whole blocks.
pub fn dequantize_all(dtype: DType, bytes: &[u8]) -> Result<Vec<f32>> {
    let block = dtype.block_bytes();
    if !bytes.len().is_multiple_of(block) {
        return Err(Failure::bad_model(format!(
            "{} bytes are no whole blocks of {block} ({dtype:?})",
            bytes.len()
        )));
    }
    let mut out = vec![0.0; bytes.len() / block * dtype.block_len()];
    dequantize(dtype, bytes, &mut out);
    Ok(out)
}

fn blocks<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    convert: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    for (block, out) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
        convert(block, out);
    }
}

fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Sixteen bytes hold elements 0..16 in the low and 16..32 in the high halves.
fn nibbles(bytes: &[u8], mut put: impl FnMut(usize, u8)) {
    for (i, byte) in bytes.iter().enumerate() {
        put(i, byte & 0x0F);
        put(i + bytes.len(), byte >> 4);
    }
}

/// f16 scale, 16 bytes of halves.
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    nibbles(&block[2..], |i, q| out[i] = d * (i32::from(q) - 8) as f32);
}

/// f16 scale, f16 minimum, 16 bytes of halves.
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    nibbles(&block[4..], |i, q| out[i] = d * f32::from(q) + m);
}

/// Bit `i` of four bytes is bit 4 of element `i`.
fn high_bits(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// f16 scale, 32 high bits, 16 bytes of halves.
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let (d, high) = (f16_at(block, 0), high_bits(&block[2..]));
    nibbles(&block[6..], |i, q| {
        let q = i32::from(q) | ((high >> i & 1) << 4) as i32;
        out[i] = d * (q - 16) as f32;
    });
}

/// f16 scale, f16 minimum, 32 high bits, 16 bytes of halves.
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m, high) = (f16_at(block, 0), f16_at(block, 2), high_bits(&block[4..]));
    nibbles(&block[8..], |i, q| {
        let q = u32::from(q) | (high >> i & 1) << 4;
        out[i] = d * q as f32 + m;
    });
}

/// f16 scale, 32 signed bytes.
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (out, q) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(q.cast_signed()) * d;
    }
}

/// The 6-bit scale and minimum of sub-block `j` (0..8) in the 12 packed bytes of `Q4_K` and `Q5_K`.
pub fn k_scale_min(scales: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (scales[j] & 0x3F, scales[j + 4] & 0x3F)
    } else {
        let low = scales[j + 4];
        (low & 0x0F | scales[j - 4] >> 2 & 0x30, low >> 4 | scales[j] >> 2 & 0x30)
    }
}

/// f16 scale, f16 minimum, 12 bytes of sub-scales; 32 bytes hold sub-blocks 2i (low halves) and 2i + 1 (high halves).
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    k_blocks(block, &block[16..], |_, _| 0, out);
}

/// As `Q4_K` with 32 bytes of high bits: bit `j` of byte `i` is bit 4 of element `i` of sub-block `j`.
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    k_blocks(block, &block[48..], |j, i| (block[16 + i] >> j & 1) << 4, out);
}

fn k_blocks(block: &[u8], quants: &[u8], high: impl Fn(usize, usize) -> u8, out: &mut [f32; 256]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, minimum) = k_scale_min(&block[4..16], j);
        let (d, m) = (d * f32::from(scale), m * f32::from(minimum));
        for (i, out) in out.iter_mut().enumerate() {
            let low = quants[j / 2 * 32 + i] >> (j % 2 * 4) & 0x0F;
            *out = d * f32::from(low | high(j, i)) - m;
        }
    }
}

/// 128 bytes of low halves, 64 bytes of high pairs, 16 signed sub-scales, f16 scale; sub-blocks of 16.
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = f16_at(block, 208);
    for (i, out) in out.iter_mut().enumerate() {
        let (half, j, at) = (i / 128, i % 128 / 32, i % 32);
        let low = block[half * 64 + j % 2 * 32 + at] >> (j / 2 * 4) & 0x0F;
        let high = block[128 + half * 32 + at] >> (2 * j) & 0x03;
        let scale = f32::from(block[192 + i / 16].cast_signed());
        *out = d * scale * (i32::from(low | high << 4) - 32) as f32;
    }
}
