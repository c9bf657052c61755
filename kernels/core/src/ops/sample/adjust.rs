//! What a seat does to a row of logits before temperature and filters.

use super::history::Seen;
use crate::seats::{Seat, SeatParams};

/// Writes the changed row to `to`; false, and nothing written, when the seat changes nothing.
pub(super) fn adjust(logits: &[f32], seat: &Seat, to: &mut Vec<f32>) -> bool {
    let params = &seat.params;
    let too_short = seat.output_index < params.min_tokens && !params.stop_ids.is_empty();
    let plain = seat.mask().is_none()
        && params.allowed_ids.is_empty()
        && params.bad_words.is_empty()
        && !too_short
        && params.logit_bias_ids.is_empty()
        && !params.penalizes();
    if plain {
        return false;
    }
    to.clear();
    if params.allowed_ids.is_empty() {
        to.extend_from_slice(logits);
    } else {
        to.resize(logits.len(), f32::NEG_INFINITY);
        for &id in &params.allowed_ids {
            to[id as usize] = logits[id as usize];
        }
    }
    if let Some(mask) = seat.mask() {
        mask.apply(to);
    }
    for word in &params.bad_words {
        if let Some((&last, before)) = word.split_last()
            && seat.history.ends_with(before)
        {
            to[last as usize] = f32::NEG_INFINITY;
        }
    }
    if too_short {
        for &id in &params.stop_ids {
            to[id as usize] = f32::NEG_INFINITY;
        }
    }
    for (&id, &bias) in params.logit_bias_ids.iter().zip(&params.logit_biases) {
        to[id as usize] += bias as f32;
    }
    for seen in seat.history.seen() {
        let logit = &mut to[seen.token as usize];
        *logit = penalized(*logit, *seen, params);
    }
    true
}

/// Whether a seat with these parameters, without a grammar, never changes a row, whatever it has picked.
pub(super) fn never_adjusts(params: &SeatParams) -> bool {
    let short = params.min_tokens > 0 && !params.stop_ids.is_empty();
    let ids =
        params.allowed_ids.is_empty() && params.bad_words.is_empty() && params.logit_bias_ids.is_empty();
    ids && !short && !params.penalizes()
}

/// Repetition, then frequency, then presence.
fn penalized(logit: f32, seen: Seen, params: &SeatParams) -> f32 {
    let repetition = params.repetition_penalty as f32;
    let logit = if logit > 0.0 { logit / repetition } else { logit * repetition };
    let logit = logit - params.frequency_penalty as f32 * seen.outputs as f32;
    if seen.outputs > 0 { logit - params.presence_penalty as f32 } else { logit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VOCABULARY: i32 = 8;

    /// What the module does, written out token by token over whole lists.
    fn plain(logits: &[f32], params: &SeatParams, prompt: &[i32], output: &[i32]) -> Vec<f32> {
        let forbidden = |id: i32| {
            let by_word = params.bad_words.iter().any(|word| {
                let before = &word[..word.len() - 1];
                word[before.len()] == id && output.len() >= before.len() && output.ends_with(before)
            });
            let too_early = output.len() < params.min_tokens as usize && params.stop_ids.contains(&id);
            let not_allowed = !params.allowed_ids.is_empty() && !params.allowed_ids.contains(&id);
            by_word || too_early || not_allowed
        };
        (0..VOCABULARY)
            .map(|id| {
                let mut logit = if forbidden(id) { f32::NEG_INFINITY } else { logits[id as usize] };
                for (of, bias) in params.logit_bias_ids.iter().zip(&params.logit_biases) {
                    logit += if *of == id { *bias as f32 } else { 0.0 };
                }
                let count = output.iter().filter(|&&token| token == id).count();
                if count > 0 || prompt.contains(&id) {
                    let repetition = params.repetition_penalty as f32;
                    logit = if logit > 0.0 { logit / repetition } else { logit * repetition };
                }
                logit -= params.frequency_penalty as f32 * count as f32;
                logit - if count > 0 { params.presence_penalty as f32 } else { 0.0 }
            })
            .collect()
    }

    /// The row of a seat with this prompt and output.
    fn adjusted(logits: &[f32], params: &SeatParams, prompt: &[i32], output: &[i32]) -> Vec<f32> {
        let params = SeatParams {
            prompt_length: prompt.len() as u32,
            output_index: output.len() as u32,
            ..params.clone()
        };
        let mut row = vec![9.0; 3];
        if adjust(logits, &Seat::new(params, &[prompt, output].concat()), &mut row) {
            row
        } else {
            logits.to_vec()
        }
    }

    fn ids(most: usize) -> impl Strategy<Value = Vec<i32>> {
        proptest::collection::vec(0..VOCABULARY, 0..=most)
    }

    prop_compose! {
        fn params()(
            stop_ids in ids(2),
            min_tokens in 0_u32..5,
            repetition_penalty in prop_oneof![Just(1.0), 0.1_f64..3.0],
            presence_penalty in prop_oneof![Just(0.0), -2.0_f64..2.0],
            frequency_penalty in prop_oneof![Just(0.0), -2.0_f64..2.0],
            biases in proptest::collection::vec((0..VOCABULARY, -100.0_f64..100.0), 0..3),
            allowed_ids in ids(5),
            bad_words in proptest::collection::vec(proptest::collection::vec(0..VOCABULARY, 1..4), 0..4),
        ) -> SeatParams {
            let (logit_bias_ids, logit_biases) = biases.into_iter().unzip();
            SeatParams {
                stop_ids, min_tokens, repetition_penalty, presence_penalty, frequency_penalty,
                logit_bias_ids, logit_biases, allowed_ids, bad_words, ..SeatParams::default()
            }
        }
    }

    proptest! {
        #[test]
        fn all_together_act_in_the_order_of_the_plain_model(
            logits in proptest::collection::vec(-4.0_f32..4.0, VOCABULARY as usize),
            params in params(),
            prompt in ids(6),
            output in ids(6),
        ) {
            let found = adjusted(&logits, &params, &prompt, &output);
            prop_assert_eq!(found, plain(&logits, &params, &prompt, &output));
        }
    }

    const ROW: [f32; 8] = [1.0, -1.0, 2.0, -2.0, 0.0, 3.0, -3.0, 0.5];
    const LOW: f32 = f32::NEG_INFINITY;

    fn row(params: &SeatParams) -> Vec<f32> {
        adjusted(&ROW, params, &[0, 1, 2], &[2, 3, 3])
    }

    #[test]
    fn a_seat_that_asks_for_nothing_leaves_the_row_where_it_is() {
        let mut untouched = vec![9.0; 3];
        let long_enough =
            SeatParams { stop_ids: vec![1], min_tokens: 2, output_index: 2, ..SeatParams::default() };
        for params in
            [SeatParams::default(), SeatParams { min_tokens: 5, ..SeatParams::default() }, long_enough]
        {
            assert!(!adjust(&ROW, &Seat::new(params, &[]), &mut untouched));
        }
        assert_eq!(untouched, [9.0; 3]);
    }

    #[test]
    fn repetition_counts_prompt_and_output_once_the_others_only_output() {
        let repetition = row(&SeatParams { repetition_penalty: 2.0, ..SeatParams::default() });
        assert_eq!(repetition, [0.5, -2.0, 1.0, -4.0, 0.0, 3.0, -3.0, 0.5]);
        let frequency = row(&SeatParams { frequency_penalty: 0.5, ..SeatParams::default() });
        assert_eq!(frequency, [1.0, -1.0, 1.5, -3.0, 0.0, 3.0, -3.0, 0.5]);
        let presence = row(&SeatParams { presence_penalty: -0.5, ..SeatParams::default() });
        assert_eq!(presence, [1.0, -1.0, 2.5, -1.5, 0.0, 3.0, -3.0, 0.5]);
    }

    #[test]
    fn only_allowed_ids_keep_their_logits() {
        let found = row(&SeatParams { allowed_ids: vec![7, 0], ..SeatParams::default() });
        assert_eq!(found, [1.0, LOW, LOW, LOW, LOW, LOW, LOW, 0.5]);
    }

    #[test]
    fn stop_ids_are_masked_until_there_are_enough_tokens() {
        let early = row(&SeatParams { stop_ids: vec![5], min_tokens: 4, ..SeatParams::default() });
        assert_eq!(early[5], LOW);
        let late = row(&SeatParams { stop_ids: vec![5], min_tokens: 3, ..SeatParams::default() });
        assert_eq!(late, ROW);
    }

    #[test]
    fn a_bad_word_is_never_completed_in_the_output() {
        let words = |words: &[&[i32]]| {
            row(&SeatParams {
                bad_words: words.iter().map(|word| word.to_vec()).collect(),
                ..SeatParams::default()
            })
        };
        assert_eq!(words(&[&[6]])[6], LOW);
        assert_eq!(words(&[&[3, 5]])[5], LOW);
        assert_eq!(words(&[&[3, 3, 5]])[5], LOW);
        assert_eq!(words(&[&[2, 3, 3, 5]])[5], LOW);
        // The output alone counts, not the prompt before it.
        assert_eq!(words(&[&[2, 2, 3, 3, 5]]), ROW);
        assert_eq!(words(&[&[2, 5], &[3, 2, 5]]), ROW);
    }

    #[test]
    fn a_bias_cannot_bring_a_masked_token_back() {
        let found = row(&SeatParams {
            allowed_ids: vec![0, 1],
            logit_bias_ids: vec![0, 5, 0],
            logit_biases: vec![100.0, 100.0, -1.0],
            ..SeatParams::default()
        });
        assert_eq!(found, [100.0, -1.0, LOW, LOW, LOW, LOW, LOW, LOW]);
    }
}
