use super::*;
use crate::ops::sample::asked::Asked;
use crate::ops::sample::sample_row;
use crate::picks::{GRAMMAR_FAILED, Want, take_all};
use crate::seats::{Seat, SeatParams, Seats};
use crate::testing::{Random, limits, step_words};
use crate::tokenizer::{Vocabulary as Tokens, byte_alphabet};
use serde_json::Value;
use std::sync::LazyLock;

/// Words of JSON and of text, so that tokens cross the grammar's own borders.
const MERGES: [&str; 14] = [
    "{ \"", "\" :", "\" }", "} ]", "[ {", "a b", "ab c", "t r", "tr u", "tru e", "1 2", "12 3", "\" ,",
    "\": Ġ",
];
const END: i32 = 256 + MERGES.len() as i32;

fn tokenizer() -> Arc<Tokenizer> {
    let mut tokens = byte_alphabet();
    tokens.extend(MERGES.iter().map(|merge| merge.replacen(' ', "", 1)));
    tokens.push("<|end|>".into());
    let mut token_types = vec![1; tokens.len()];
    *token_types.last_mut().unwrap() = 3;
    let vocabulary = Tokens {
        model: "gpt2".into(),
        pre: "gpt-2".into(),
        tokens,
        token_types,
        merges: MERGES.map(Into::into).to_vec(),
        ..Default::default()
    };
    Arc::new(Tokenizer::from_gguf(vocabulary).unwrap())
}

static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(tokenizer);
static COMPILER: LazyLock<Compiler> =
    LazyLock::new(|| Compiler::new(Arc::clone(&TOKENIZER), &[END as u32]).unwrap());

fn lark(text: &str) -> Grammar {
    COMPILER.compile(text.to_owned()).unwrap()
}

fn json(schema: &str) -> Grammar {
    let written = schema.replacen('{', r#"{"x-guidance":{"whitespace_flexible":false},"#, 1);
    lark(&format!("start: %json {written}"))
}

/// Picks among what may come until the end, at most `most` tokens; `see` is shown every place with its mask.
fn walk(grammar: &Grammar, random: &mut Random, most: usize, mut see: impl FnMut(&[i32], &Mask)) -> Vec<i32> {
    let mut matching = Matching::open(grammar, &[]);
    let mut output = Vec::new();
    while output.len() < most {
        assert!(matching.wait(), "{matching:?} behind {:?}", text(&output));
        let mask = matching.mask().unwrap();
        see(&output, mask);
        let token = mask.choose(random.next() as usize >> 8) as i32;
        output.push(token);
        if token == END {
            break;
        }
        matching.advance(token);
    }
    output
}

fn text(output: &[i32]) -> String {
    let bytes = output.iter().flat_map(|&id| TOKENIZER.token_bytes(id as u32, false)).copied().collect();
    String::from_utf8(bytes).unwrap_or_default()
}

/// All of them end, whatever is picked.
const SCHEMAS: [&str; 6] = [
    r#"{"type":"object","properties":{"abc":{"type":"boolean"},"n":{"type":"integer","minimum":-5,"maximum":123}},"required":["abc","n"],"additionalProperties":false}"#,
    r#"{"type":"array","items":{"enum":["ab","abc",12,null,{"a":[true]}]},"minItems":1,"maxItems":4}"#,
    r#"{"type":"object","properties":{"s":{"type":"string","maxLength":6}},"additionalProperties":false}"#,
    r#"{"anyOf":[{"const":"é"},{"type":"array","maxItems":0},{"type":"string","pattern":"^[a-c]{2,5}$"}]}"#,
    r##"{"$defs":{"t":{"type":"object","properties":{"t":{"anyOf":[{"$ref":"#/$defs/u"},{"type":"null"}]}},"required":["t"],"additionalProperties":false},"u":{"enum":[1,2]}},"$ref":"#/$defs/t"}"##,
    r#"{"type":"string","format":"date"}"#,
];

#[test]
fn every_walk_ends_in_a_document_and_goes_on_from_its_output_as_from_its_places() {
    let mut random = Random(11);
    for schema in SCHEMAS {
        let grammar = json(schema);
        for _ in 0..12 {
            let mut places = Vec::new();
            let output = walk(&grammar, &mut random, 300, |output, mask| {
                let is_whole = serde_json::from_str::<Value>(&text(output)).is_ok();
                assert_eq!(mask.allows(END as usize), is_whole, "{schema}: {}", text(output));
                places.push((output.to_vec(), mask.clone()));
            });
            assert_eq!(output.last(), Some(&END), "{schema}: {}", text(&output));
            serde_json::from_str::<Value>(&text(&output)).unwrap();
            // What was preempted is opened again behind its output.
            let (output, mask) = &places[random.below(places.len())];
            let mut again = Matching::open(&grammar, output);
            assert!(again.wait());
            assert_eq!(again.mask(), Some(mask));
        }
    }
}

#[test]
fn what_a_mask_allows_goes_on_and_what_it_leaves_out_does_not() {
    let mut random = Random(12);
    for schema in SCHEMAS {
        let grammar = json(schema);
        let _ = walk(&grammar, &mut random, 20, |output, mask| {
            for token in 0..END {
                let behind = [output, &[token]].concat();
                let goes_on = Matching::open(&grammar, &behind).wait();
                // Of forced text the model's own tokens alone are allowed, though others would spell it too.
                assert!(goes_on || !mask.allows(token as usize), "{schema}: {:?} {token}", text(output));
                assert!(
                    !goes_on || mask.allows(token as usize) || mask.only().is_some(),
                    "{schema}: {:?} {token}",
                    text(output)
                );
            }
        });
    }
}

#[test]
fn sequences_of_one_grammar_do_not_touch_each_other() {
    let grammar = json(SCHEMAS[1]);
    let alone = walk(&grammar, &mut Random(5), 100, |_, _| {});
    let together: Vec<_> = std::thread::scope(|scope| {
        let walk = |seed| walk(&grammar, &mut Random(seed), 100, |_, _| {});
        let threads = [5, 1, 5, 2].map(|seed| scope.spawn(move || walk(seed)));
        threads.map(|thread| thread.join().unwrap()).into()
    });
    assert_eq!((&together[0], &together[2]), (&alone, &alone));
}

#[test]
fn forced_text_is_written_in_the_models_own_tokens() {
    let grammar = lark(r#"start: "abc123""#);
    let mut matching = Matching::open(&grammar, &[]);
    let mut forced = Vec::new();
    while matching.wait() {
        let Some(token) = matching.mask().and_then(Mask::only) else { break };
        forced.push(token as i32);
        if token as i32 == END {
            break;
        }
        matching.advance(token as i32);
    }
    let own = TOKENIZER.encode("abc123", false, false).unwrap();
    assert_eq!(forced[..forced.len() - 1], own.iter().map(|&id| id as i32).collect::<Vec<_>>());
    assert_eq!(forced.last(), Some(&END));
}

#[test]
fn marks_are_never_text() {
    let grammar = lark(r"start: /(.|\n)*/");
    let mut matching = Matching::open(&grammar, &[]);
    assert!(matching.wait());
    let mask = matching.mask().unwrap();
    // The end, because nothing at all is a text; and no byte that begins no character.
    assert!(mask.allows(END as usize) && !mask.allows(0xff));
    let grammar = lark(r#"start: "<|" "end|>""#);
    let output = walk(&grammar, &mut Random(1), 50, |output, mask| {
        assert!(!mask.allows(END as usize) || text(output) == "<|end|>");
    });
    assert_eq!(text(&output), "<|end|>");
}

#[test]
fn what_cannot_be_followed_is_refused_with_a_reason() {
    for (source, with) in [
        ("start: %json {", "EOF"),
        (r#"start: %json {"type":"colour"}"#, "colour"),
        (r#"start: %json {"type":"string","not":{"const":"a"}}"#, "not"),
        (r#"start: %json {"allOf":[{"type":"string"},{"type":"integer"}]}"#, "nsatisfiable"),
        ("start: /(/", "unclosed"),
        ("start: other", "other"),
        ("", "start"),
    ] {
        let Err(failure) = COMPILER.compile(source.into()) else { panic!("{source} was taken") };
        assert_eq!(failure.code.as_str(), "invalid_request");
        assert!(failure.message.contains(with), "{source}: {}", failure.message);
        assert!(!failure.message.contains("<state>"), "{}", failure.message);
    }
}

#[test]
fn what_would_blow_up_is_refused_within_its_limits() {
    let either =
        |i| format!(r#"{{"anyOf":[{{"properties":{{"a{i}":true}}}},{{"properties":{{"b{i}":true}}}}]}}"#);
    let all: Vec<String> = (0..20).map(either).collect();
    for source in [
        format!(r#"start: %json {{"allOf":[{}]}}"#, all.join(",")),
        r#"start: %json {"type":"integer","multipleOf":982451653}"#.to_owned(),
    ] {
        let failure = COMPILER.compile(source).err().unwrap();
        assert_eq!(failure.code.as_str(), "invalid_request");
    }
}

/// A seat at the beginning of a grammar, once it is known what may come.
fn seat_in(grammar: &Grammar, params: SeatParams) -> Seat {
    let mut seat = Seat::new(params, &[]).in_grammar(Some(Matching::open(grammar, &[])));
    assert!(seat.wait());
    seat
}

#[test]
fn a_pick_is_that_of_a_row_in_which_nothing_else_is_possible() {
    let grammar = lark(r#"start: "a" | "abc" | /[d-k]/ | "1""#);
    let width = END as usize + 20;
    let mut random = Random(3);
    for seed_low in 0..40 {
        let logits = random.normals(width);
        for (temperature, top_p, top_k) in [(0.0, 1.0, 0), (1.0, 1.0, 0), (1.5, 0.7, 0), (1.0, 1.0, 3)] {
            let params =
                SeatParams { temperature, top_k, top_p, seed_low, top_logprobs: 0, ..SeatParams::default() };
            let seat = seat_in(&grammar, params.clone());
            let choice = sample_row(&logits, Want::Pick(&seat), &mut Vec::new());
            assert!(seat.mask().unwrap().allows(choice.token as usize));
            let mut masked = logits.clone();
            seat.mask().unwrap().apply(&mut masked);
            let free = Seat::new(params, &[]);
            assert_eq!(choice.token, sample_row(&masked, Want::Pick(&free), &mut Vec::new()).token);
            // What is told of it is told of the raw row.
            let raw = Want::Score { token: choice.token, top: None };
            assert_eq!(choice.logprob, sample_row(&logits, raw, &mut Vec::new()).logprob);
        }
    }
}

#[test]
fn a_grammar_goes_before_all_that_forbids_its_tokens() {
    let grammar = lark(r#"start: "a""#);
    let a = i32::from(b'a');
    for params in [
        SeatParams { allowed_ids: vec![5], ..SeatParams::default() },
        SeatParams { bad_words: vec![vec![a]], temperature: 1.0, ..SeatParams::default() },
        SeatParams { logit_bias_ids: vec![a], logit_biases: vec![-100.0], ..SeatParams::default() },
    ] {
        let seat = seat_in(&grammar, params);
        assert_eq!(sample_row(&[0.0; 300], Want::Pick(&seat), &mut Vec::new()).token, a);
    }
    // Two may come, and both are forbidden.
    let grammar = lark(r#"start: "b" | "c""#);
    let seat = seat_in(&grammar, SeatParams { allowed_ids: vec![5, 6], ..SeatParams::default() });
    assert_eq!(sample_row(&[0.0; 300], Want::Pick(&seat), &mut Vec::new()).token, i32::from(b'b'));
}

#[test]
fn a_device_is_not_asked_for_picks_of_a_grammar() {
    let mut seats = Seats::new(4);
    seats.open(0, seat_in(&lark(r#"start: "a""#), SeatParams::default()));
    let step = step_words(0, &[(0, 0, &[1, 2])], &[1]).parse(&limits());
    assert!(!Asked::default().read(&step, &seats));
    seats.open(0, Seat::new(SeatParams::default(), &[]));
    assert!(Asked::default().read(&step, &seats));
}

#[test]
fn a_seat_whose_grammar_has_given_up_freezes_and_says_so() {
    let step = step_words(0, &[(0, 0, &[1, 2])], &[1]).parse(&limits());
    let mut seats = Seats::new(4);
    seats.open(0, Seat::new(SeatParams::default(), &[]).in_grammar(Some(Matching::failed("no"))));
    for _ in 0..2 {
        let mut sampled = Vec::new();
        take_all(&step, &mut seats, &mut sampled, |_, _| panic!("it is not asked"));
        assert_eq!((sampled[0].token, sampled[0].finish), (-1, GRAMMAR_FAILED));
        assert!(seats.get(0).unwrap().frozen);
    }
}

#[test]
fn a_vocabulary_without_an_end_is_refused() {
    assert_eq!(Compiler::new(Arc::clone(&TOKENIZER), &[]).err().unwrap().code.as_str(), "unsupported");
    assert_eq!(Compiler::new(Arc::clone(&TOKENIZER), &[9999]).err().unwrap().code.as_str(), "bad_model");
}
