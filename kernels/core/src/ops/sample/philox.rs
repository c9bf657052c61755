//! Philox 4x32-10, a counter-based generator: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2,
//! 3" (SC 2011). A number is a function of its counter, so nothing has to be kept or restored.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Four random words for a counter and a key.
pub(super) fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [a, b] = [0, 1].map(|i| u64::from(MULTIPLIERS[i]) * u64::from(counter[2 * i]));
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// A number in 0..1 with 53 random bits for an output of a choice of a request.
pub(super) fn uniform(seed: u64, choice: u32, output_index: u32) -> f64 {
    let words = philox([output_index, choice, 0, 0], [seed as u32, (seed >> 32) as u32]);
    let bits = (u64::from(words[0]) << 32 | u64::from(words[1])) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the authors' Random123 package (`kat_vectors`).
    #[test]
    fn gives_the_published_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn is_uniform_over_outputs_of_many_seeds() {
        let n = 4000_u32;
        // Deviation of a mean of n uniform numbers.
        let sigma = (1.0 / 12.0 / f64::from(n)).sqrt();
        let scores: Vec<f64> = (0..200)
            .map(|seed| ((0..n).map(|i| uniform(seed, 0, i)).sum::<f64>() / f64::from(n) - 0.5) / sigma)
            .collect();
        let variance = scores.iter().map(|score| score * score).sum::<f64>() / scores.len() as f64;
        // Four deviations of the variance of 200 normal scores.
        assert!((variance - 1.0).abs() < 0.4, "{variance}");
        assert!((0..n).all(|i| (0.0..1.0).contains(&uniform(u64::MAX, 3, i))));
    }
}
