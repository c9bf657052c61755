//! De-quantisation equals recorded results of the `gguf` Python package (`vectors/record.py`) to the last bit.

use kvengine_core::dequant::dequantize_all;
use kvengine_core::dtype::DType;

#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn check(dtype: DType, vector: &[u8]) {
    let len = u32::from_le_bytes(vector[..4].try_into().unwrap()) as usize;
    let (encoded, expected) = vector[4..].split_at(len);
    let found = dequantize_all(dtype, encoded).unwrap();
    assert_eq!(found.len() * 4, expected.len());
    for (i, (found, expected)) in found.iter().zip(expected.as_chunks().0).enumerate() {
        let expected = u32::from_le_bytes(*expected);
        assert_eq!(
            found.to_bits(),
            expected,
            "{dtype:?} element {i}: {found} is not {}",
            f32::from_bits(expected)
        );
    }
}

macro_rules! recorded {
    ($($test:ident $dtype:ident)*) => {
        $(#[test]
        fn $test() {
            check(DType::$dtype, include_bytes!(concat!("vectors/", stringify!($dtype), ".bin")));
        })*
    };
}

recorded! {
    f32_equals_recorded F32
    f16_equals_recorded F16
    bf16_equals_recorded BF16
    q4_0_equals_recorded Q4_0
    q4_1_equals_recorded Q4_1
    q5_0_equals_recorded Q5_0
    q5_1_equals_recorded Q5_1
    q8_0_equals_recorded Q8_0
    q4_k_equals_recorded Q4_K
    q5_k_equals_recorded Q5_K
    q6_k_equals_recorded Q6_K
}

#[test]
fn a_cut_off_block_is_an_error() {
    let failure = dequantize_all(DType::Q4_1, &[0; 19]).unwrap_err();
    assert!(failure.message.contains("19 bytes"), "{failure}");
}
