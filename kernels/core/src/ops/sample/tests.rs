use super::*;
use crate::testing::Random;
use proptest::prelude::*;

fn params() -> SeatParams {
    SeatParams { temperature: 1.0, seed_low: 1, seed_high: 2, top_logprobs: 0, ..SeatParams::default() }
}

/// A pick of a seat with these parameters at an output index.
fn sample_row(logits: &[f32], params: &SeatParams, output_index: u32) -> Choice {
    let seat = Seat::new(SeatParams { output_index, ..params.clone() }, &[]);
    super::sample_row(logits, Want::Pick(&seat), &mut Vec::new())
}

/// The filters written out over a full sort.
fn allowed(logits: &[f32], params: &SeatParams) -> Vec<usize> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |i: usize| ((f64::from(logits[i]) - f64::from(max)) / params.temperature).exp();
    let mut ids: Vec<usize> = (0..logits.len()).collect();
    ids.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    ids.retain(|&i| weight(i) >= params.min_p);
    if params.top_k > 0 {
        ids.truncate(params.top_k as usize);
    }
    let total: f64 = ids.iter().map(|&i| weight(i)).sum();
    let mut sum = 0.0;
    let end = ids.iter().position(|&i| {
        sum += weight(i);
        sum >= params.top_p * total * (1.0 - 1e-6)
    });
    // The border is fuzzy by rounding: one more is allowed.
    ids.truncate(end.map_or(ids.len(), |end| end + 2));
    ids
}

#[test]
fn greedy_takes_the_lowest_id_among_equals_and_gives_its_raw_logprob() {
    let mut logits = vec![0.0; 100];
    logits[40] = 2.0;
    logits[70] = 2.0;
    let choice = sample_row(&logits, &SeatParams { temperature: 0.0, ..params() }, 0);
    assert_eq!(choice.token, 40);
    let exact = 2.0 - (98.0 + 2.0 * 2.0_f64.exp()).ln();
    assert!((f64::from(choice.logprob) - exact).abs() < 1e-6, "{}", choice.logprob);
}

#[test]
fn rows_of_nan_and_infinities_are_survived() {
    let cases = [
        vec![f32::NAN; 40],
        vec![f32::NEG_INFINITY; 40],
        vec![f32::INFINITY; 40],
        [vec![f32::NAN; 20], vec![1.0; 20]].concat(),
        [vec![f32::NEG_INFINITY; 39], vec![-3.0]].concat(),
        vec![f32::MIN, f32::MAX],
    ];
    for logits in cases {
        for (temperature, top_k, top_p, min_p) in [
            (0.0, 0, 1.0, 0.0),
            (1.0, 0, 1.0, 0.0),
            (0.7, 3, 0.5, 0.1),
            (1e-30, 0, 0.9, 0.0),
            (1e30, 0, 0.9, 0.5),
        ] {
            let params = SeatParams { temperature, top_k, top_p, min_p, ..params() };
            let choice = sample_row(&logits, &params, 5);
            assert!((choice.token as usize) < logits.len());
            let best = logits.iter().any(|x| !x.is_nan());
            assert!(!best || !logits[choice.token as usize].is_nan(), "{logits:?} {params:?}");
        }
    }
}

#[test]
fn frequencies_follow_the_distribution_at_the_temperature() {
    let logits = [0.0_f32, 1.0, 2.0, -1.0];
    let temperature = 0.7;
    let n = 40_000;
    let mut counts = [0_u32; 4];
    for i in 0..n {
        counts[sample_row(&logits, &SeatParams { temperature, ..params() }, i).token as usize] += 1;
    }
    let weights = logits.map(|x| (f64::from(x) / temperature).exp());
    let total: f64 = weights.iter().sum();
    for (count, weight) in counts.iter().zip(weights) {
        let (share, expected) = (f64::from(*count) / f64::from(n), weight / total);
        assert!((share - expected).abs() < 0.01, "{share} {expected}");
    }
}

proptest! {
    #[test]
    fn a_pick_is_the_element_at_which_the_running_sum_passes(
        mut weights in proptest::collection::vec(prop_oneof![Just(0.0_f32), 1e-6_f32..1.0], 0..900),
        at in any::<proptest::sample::Index>(),
        uniform in prop_oneof![Just(0.0), Just(1.0 - f64::EPSILON / 2.0), 0.0_f64..1.0],
    ) {
        weights.insert(at.index(weights.len() + 1), 1.0);
        let picked = pick(&sums(&weights), uniform, |from| weights[from..weights.len().min(from + CHUNK)].to_vec());
        let sum = |to: usize| weights[..to].iter().map(|&x| f64::from(x)).sum::<f64>();
        let target = uniform * sum(weights.len());
        prop_assert!(weights[picked] > 0.0);
        // Sums of chunks are rounded.
        prop_assert!(sum(picked) <= target + 1e-4, "{} {}", sum(picked), target);
        prop_assert!(sum(picked + 1) >= target - 1e-4, "{} {}", sum(picked + 1), target);
    }
}

#[test]
fn a_target_behind_all_chunks_is_the_last_element_that_has_weight() {
    let pick_of = |sums: &[f64], uniform| {
        pick(sums, uniform, |from| if from == CHUNK { vec![0.5, 0.25, 0.0] } else { vec![1.0] })
    };
    // As where the sum of chunks rounds to what the product of it and a number just below 1 rounds to.
    assert_eq!(pick_of(&[1.0, 0.75, 0.0], 1.0), CHUNK + 1);
    assert_eq!(pick_of(&[1.0, 0.75, 0.0], 0.9), CHUNK + 1);
    assert_eq!(pick_of(&[1.0, 0.75, 0.0], 0.8), CHUNK);
    assert_eq!(pick_of(&[1.0, 0.75, 0.0], 0.5), 0);
}

#[test]
fn choices_and_seeds_draw_differently_and_repeat() {
    let logits = vec![0.0_f32; 1000];
    let draw = |seed_low, choice| -> Vec<i32> {
        let params = SeatParams { seed_low, choice, ..params() };
        (0..8).map(|i| sample_row(&logits, &params, i).token).collect()
    };
    assert_eq!(draw(1, 0), draw(1, 0));
    assert_ne!(draw(1, 0), draw(1, 1));
    assert_ne!(draw(1, 0), draw(2, 0));
}

#[test]
fn top_k_of_one_and_a_tiny_nucleus_are_greedy() {
    let logits: Vec<f32> = (0..5000).map(|i| ((i * 7919) % 5003) as f32 / 1000.0).collect();
    let greedy = sample_row(&logits, &SeatParams { temperature: 0.0, ..params() }, 0);
    for i in 0..50 {
        assert_eq!(sample_row(&logits, &SeatParams { top_k: 1, ..params() }, i), greedy);
        assert_eq!(sample_row(&logits, &SeatParams { top_p: 1e-9, ..params() }, i), greedy);
        assert_eq!(sample_row(&logits, &SeatParams { min_p: 1.0, ..params() }, i), greedy);
    }
}

proptest! {
    #[test]
    fn picks_only_what_a_full_sort_would_allow(
        logits in proptest::collection::vec(-12.0_f32..12.0, 1..400),
        temperature in 0.1_f64..3.0,
        top_k in 0_u32..60,
        top_p in prop_oneof![Just(1.0), 0.01_f64..1.0],
        min_p in prop_oneof![Just(0.0), 0.0_f64..0.5],
        seed_low: u32,
    ) {
        let params = SeatParams { temperature, top_k, top_p, min_p, seed_low, ..params() };
        let allowed = allowed(&logits, &params);
        for i in 0..8 {
            let token = sample_row(&logits, &params, i).token;
            prop_assert!(allowed.contains(&(token as usize)), "{} not in {:?}", token, allowed);
        }
    }
}

/// Tokens of a seat over rows of logits that depend on the output index.
fn continued(params: &SeatParams, history: &[i32], to: u32) -> Vec<Choice> {
    let mut seat = Seat::new(params.clone(), history);
    let mut scratch = Vec::new();
    let mut choices = Vec::new();
    while seat.output_index < to {
        let logits = Random(u64::from(seat.output_index) + 7).normals(24);
        let choice = super::sample_row(&logits, Want::Pick(&seat), &mut scratch);
        seat.advance(choice.token);
        choices.push(choice);
    }
    choices
}

proptest! {
    #[test]
    fn a_seat_opened_again_behind_any_token_goes_on_with_the_same_bits(
        temperature in prop_oneof![Just(0.0), 0.1_f64..2.0],
        penalties in (0.5_f64..2.0, -2.0_f64..2.0, -2.0_f64..2.0),
        prompt in proptest::collection::vec(0_i32..24, 0..10),
        bad_words in proptest::collection::vec(proptest::collection::vec(0_i32..24, 1..4), 0..20),
        min_tokens in 0_u32..20,
        top_logprobs in -1_i32..5,
        cut in 0_usize..20,
    ) {
        let params = SeatParams {
            temperature,
            repetition_penalty: penalties.0,
            presence_penalty: penalties.1,
            frequency_penalty: penalties.2,
            bad_words,
            stop_ids: vec![3],
            min_tokens,
            top_logprobs,
            prompt_length: prompt.len() as u32,
            ..params()
        };
        let whole = continued(&params, &prompt, 20);
        let output: Vec<i32> = whole.iter().map(|choice| choice.token).collect();
        let again = SeatParams { output_index: cut as u32, ..params };
        prop_assert_eq!(continued(&again, &[&prompt, &output[..cut]].concat(), 20), &whole[cut..]);
    }
}

#[test]
fn logprob_rank_and_list_are_those_of_the_raw_logits() {
    let logits = [1.0_f32, 3.0, 2.0, 3.0, -1.0];
    let params = SeatParams { temperature: 0.0, top_logprobs: 2, ..params() };
    let plain = sample_row(&logits, &params, 0);
    assert_eq!((plain.token, plain.rank), (1, 1));
    let biased = SeatParams {
        logit_bias_ids: vec![2, 1],
        logit_biases: vec![10.0, -100.0],
        bad_words: vec![vec![3]],
        ..params
    };
    let choice = sample_row(&logits, &biased, 0);
    assert_eq!((choice.token, choice.rank), (2, 3));
    let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
    assert!((f64::from(choice.logprob) - (2.0 - total.ln())).abs() < 1e-6);
    assert_eq!(choice.top, plain.top);
    assert_eq!(choice.top.iter().map(|top| top.token).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(choice.top[0].logprob, plain.logprob);
}

#[test]
fn a_list_is_given_only_where_it_is_asked_for() {
    let logits = [1.0_f32, 3.0, 2.0];
    for (top_logprobs, rank, len) in [(-1, 0, 0), (0, 1, 0), (1, 1, 1), (3, 1, 3)] {
        let choice = sample_row(&logits, &SeatParams { temperature: 0.0, top_logprobs, ..params() }, 0);
        assert_eq!((choice.rank, choice.top.len()), (rank, len));
    }
    let scored = |top| super::sample_row(&logits, Want::Score { token: 2, top }, &mut Vec::new());
    assert_eq!((scored(None).token, scored(None).rank), (2, 0));
    assert_eq!((scored(Some(0)).rank, scored(Some(0)).top.len()), (2, 0));
    assert_eq!((scored(Some(2)).rank, scored(Some(2)).top.len()), (2, 2));
    assert_eq!(scored(Some(2)).logprob, scored(Some(2)).top[1].logprob);
}

#[test]
fn where_nothing_can_be_picked_it_is_the_lowest_allowed_id() {
    let logits = [0.0_f32, 1.0, 2.0, 3.0];
    for temperature in [0.0, 1.0] {
        let masked = SeatParams {
            temperature,
            allowed_ids: vec![3, 2],
            bad_words: vec![vec![2], vec![3]],
            top_k: 2,
            ..params()
        };
        assert_eq!(sample_row(&logits, &masked, 0).token, 2);
        let all = (0..4).map(|id| vec![id]).collect();
        assert_eq!(sample_row(&logits, &SeatParams { temperature, bad_words: all, ..params() }, 0).token, 0);
    }
}

#[test]
fn draws_follow_the_changed_row() {
    let logits = [0.0_f32; 4];
    let params =
        SeatParams { allowed_ids: vec![1, 3], logit_bias_ids: vec![3], logit_biases: vec![1.0], ..params() };
    let n = 20_000;
    let threes = (0..n).filter(|&i| match sample_row(&logits, &params, i).token {
        1 => false,
        3 => true,
        other => panic!("{other}"),
    });
    let (share, expected) = (threes.count() as f64 / f64::from(n), 1.0 / (1.0 + (-1.0_f64).exp()));
    assert!((share - expected).abs() < 0.015, "{share} {expected}");
}
