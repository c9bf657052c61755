use super::*;
use proptest::prelude::*;

fn params() -> SeatParams {
    SeatParams {
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed_low: 1,
        seed_high: 2,
        choice: 0,
        output_index: 0,
        stop_ids: vec![],
        max_tokens: 100,
    }
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
            assert!(choice.token < logits.len());
            let best = logits.iter().any(|x| !x.is_nan());
            assert!(!best || !logits[choice.token].is_nan(), "{logits:?} {params:?}");
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
        counts[sample_row(&logits, &SeatParams { temperature, ..params() }, i).token] += 1;
    }
    let weights = logits.map(|x| (f64::from(x) / temperature).exp());
    let total: f64 = weights.iter().sum();
    for (count, weight) in counts.iter().zip(weights) {
        let (share, expected) = (f64::from(*count) / f64::from(n), weight / total);
        assert!((share - expected).abs() < 0.01, "{share} {expected}");
    }
}

#[test]
fn choices_and_seeds_draw_differently_and_repeat() {
    let logits = vec![0.0_f32; 1000];
    let draw = |seed_low, choice| -> Vec<usize> {
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
            prop_assert!(allowed.contains(&token), "{} not in {:?}", token, allowed);
        }
    }
}
