//! Programs of a tiny model.

use super::*;
use crate::arena::{GroupKind, KvGroup};
use crate::dtype::DType;
use crate::error::Code;
use crate::seats::{Seat, SeatParams};
use crate::step::PICK;
use crate::testing::{TinyModel, VOCABULARY, computing, greedy, step_words};

fn tokens(len: usize) -> Vec<i32> {
    (0..len).map(|i| ((i * 31 + 7) % VOCABULARY as usize) as i32).collect()
}

/// Logits of the last position of a prompt computed in chunks.
fn chunked(program: &mut Program, tokens: &[i32], chunk: usize) -> Vec<f32> {
    let mut logits = Vec::new();
    for start in (0..tokens.len()).step_by(chunk) {
        let part = &tokens[start..(start + chunk).min(tokens.len())];
        let step = step_words(0, &[(1, start, part)], &[part.len() - 1]).parse(program.limits());
        logits = program.logits(&step).unwrap();
    }
    logits
}

const WEIGHT_TYPES: [DType; 3] = [DType::Q4_1, DType::F16, DType::F32];

fn compiled(backend: &str, dtype: DType, threads: u32) -> Program {
    let mut model = TinyModel::new(backend, dtype);
    model.spec.threads = threads;
    Program::compile(&model.spec).unwrap()
}

#[test]
fn chunks_of_any_size_give_the_same_bits() {
    let tokens = tokens(61);
    for backend in computing() {
        for dtype in WEIGHT_TYPES {
            let whole = chunked(&mut compiled(backend, dtype, 1), &tokens, tokens.len());
            assert!(whole.iter().all(|x| x.is_finite()) && whole.iter().any(|&x| x != whole[0]));
            for chunk in [1, 7, 16, 40] {
                let found = chunked(&mut compiled(backend, dtype, 1), &tokens, chunk);
                assert_eq!(found, whole, "{backend} {dtype:?} chunk {chunk}");
            }
        }
    }
}

#[test]
fn other_rows_of_the_step_and_threads_change_no_bit() {
    let tokens = tokens(33);
    for backend in computing() {
        for dtype in WEIGHT_TYPES {
            let alone = chunked(&mut compiled(backend, dtype, 1), &tokens, tokens.len());
            let mut program = compiled(backend, dtype, 3);
            let rows = [(3, 0, &tokens[5..20]), (1, 0, &tokens[..]), (0, 0, &[4][..])];
            let step = step_words(0, &rows, &[14, 47, 48]).parse(program.limits());
            let logits = program.logits(&step).unwrap();
            let width = VOCABULARY as usize;
            assert_eq!(logits[width..2 * width], alone, "{backend} {dtype:?}");
        }
    }
}

/// Errors of single ops (`ops/suite.rs`) add up over two layers.
#[test]
fn the_whole_forward_agrees_with_the_reference() {
    let tokens = tokens(61);
    for (dtype, tolerance) in [(DType::F32, 5e-3), (DType::F16, 2e-2), (DType::Q4_1, 1e-1)] {
        let expected = chunked(&mut compiled("reference", dtype, 1), &tokens, 61);
        for backend in computing() {
            let found = chunked(&mut compiled(backend, dtype, 2), &tokens, 61);
            crate::ops::closeness::assert_close(
                &format!("{backend} {dtype:?}"),
                &found,
                &expected,
                tolerance,
            );
        }
    }
}

#[test]
fn logits_of_more_positions_than_planned_are_those_of_each_alone() {
    let model = TinyModel::new("reference", DType::F32);
    let tokens = tokens(21);
    let mut program = Program::compile(&model.spec).unwrap();
    let samples: Vec<usize> = (0..tokens.len()).collect();
    let step = step_words(0, &[(0, 0, &tokens)], &samples).parse(program.limits());
    let all = program.logits(&step).unwrap();
    assert_eq!(all.len(), tokens.len() * VOCABULARY as usize);
    for at in [0, 3, 4, 20] {
        let step = step_words(0, &[(0, 0, &tokens)], &[at]).parse(program.limits());
        let one = program.logits(&step).unwrap();
        assert_eq!(one, all[at * one.len()..(at + 1) * one.len()], "position {at}");
    }
}

#[test]
fn right_drafts_pick_what_single_steps_pick_and_their_scores_agree() {
    for backend in computing() {
        for (temperature, top_logprobs) in [(0.0, 2), (1.0, 2), (0.0, -1)] {
            let seat = || Seat::new(SeatParams { temperature, top_logprobs, ..greedy() }, &[]);
            let mut program = compiled(backend, DType::Q4_1, 2);
            let mut seats = Seats::new(4);
            let prompt = tokens(9);
            seats.open(1, seat());
            let step = step_words(0, &[(1, 0, &prompt)], &[8]).parse(program.limits());
            let mut picked = program.run(&step, &mut seats).unwrap();
            for position in 9..12 {
                let last = [picked[picked.len() - 1].token];
                let step = step_words(0, &[(1, position, &last)], &[0]).parse(program.limits());
                picked.extend(program.run(&step, &mut seats).unwrap());
            }
            for wrong in [3, 2, 1] {
                seats.open(2, seat());
                let step = step_words(0, &[(2, 0, &prompt)], &[8]).parse(program.limits());
                let mut drafted = program.run(&step, &mut seats).unwrap();
                let mut row: Vec<i32> = picked[..3].iter().map(|pick| pick.token).collect();
                if wrong < 3 {
                    row[wrong] = (row[wrong] + 1) % VOCABULARY as i32;
                }
                let mut words = step_words(0, &[(3, 0, &prompt[..4]), (2, 9, &row)], &[0, 4, 5, 6]);
                words.targets = vec![prompt[1], PICK, PICK, PICK];
                drafted.extend(program.run(&words.parse(program.limits()), &mut seats).unwrap());
                let score = drafted.remove(1);
                assert!(score.token == -1 && score.logprob < 0.0 && score.rank == 0);
                let right = wrong + 1;
                assert_eq!(drafted[..right], picked[..right], "{backend}");
                assert!(drafted[right..].iter().all(|pick| *pick == Sampled::NONE), "{backend}");
            }
        }
    }
}

/// What sequences, each a seat and the length of its prompt, pick when they are computed together.
fn decoded(program: &mut Program, sequences: &[(usize, usize)]) -> Vec<Vec<Sampled>> {
    let (mut seats, prompt) = (Seats::new(4), tokens(40));
    for &(seat, _) in sequences {
        seats.open(seat, Seat::new(greedy(), &[]));
    }
    let mut rows: Vec<(usize, usize, Vec<i32>)> =
        sequences.iter().map(|&(seat, len)| (seat, 0, prompt[..len].to_vec())).collect();
    let mut picked = vec![Vec::new(); rows.len()];
    for _ in 0..4 {
        let given: Vec<(usize, usize, &[i32])> =
            rows.iter().map(|(seat, start, tokens)| (*seat, *start, tokens.as_slice())).collect();
        let ends = given.iter().scan(0, |end, row| {
            *end += row.2.len();
            Some(*end)
        });
        let samples: Vec<usize> = ends.map(|end| end - 1).collect();
        let step = step_words(0, &given, &samples).parse(program.limits());
        let picks = program.run(&step, &mut seats).unwrap();
        for ((row, picked), pick) in rows.iter_mut().zip(&mut picked).zip(picks) {
            *row = (row.0, row.1 + row.2.len(), vec![pick.token]);
            picked.push(pick);
        }
    }
    picked
}

/// A device that keeps decode steps as graphs fills three sequences up to four rows; the fourth must leave no trace.
#[test]
fn sequences_that_decode_together_pick_what_each_picks_alone() {
    for backend in computing() {
        let mut program = compiled(backend, DType::Q4_1, 1);
        let sequences = [(3, 9), (0, 20), (2, 33)];
        let alone: Vec<_> = sequences.iter().flat_map(|&one| decoded(&mut program, &[one])).collect();
        assert_eq!(decoded(&mut program, &sequences), alone, "{backend}");
    }
}

#[test]
fn pages_are_copied_before_the_step_in_the_order_given() {
    let tokens = tokens(40);
    for backend in computing() {
        let mut program = compiled(backend, DType::F16, 1);
        let own = step_words(0, &[(1, 0, &tokens)], &[39]);
        let expected = program.logits(&own.parse(program.limits())).unwrap();
        let mut fork = step_words(0, &[(2, 39, &tokens[39..])], &[0]);
        let tables = |words: &[i32], row_words: usize| words[words.len() - row_words..].to_vec();
        let from = tables(&own.words(), 3);
        let to = tables(&fork.words(), 3);
        // Through blocks of a third sequence, which the pairs fill and read in turn.
        let by = step_words(0, &[(3, 0, &tokens)], &[]).words();
        for ((from, to), by) in from.iter().zip(&to).zip(tables(&by, 3)) {
            fork.copies.extend([*from, by, by, *to]);
        }
        let found = program.logits(&fork.parse(program.limits())).unwrap();
        assert_eq!(found, expected, "{backend}");
    }
}

#[test]
fn a_step_without_samples_only_fills_the_cache() {
    let model = TinyModel::new("reference", DType::F32);
    let mut program = Program::compile(&model.spec).unwrap();
    let mut seats = Seats::new(4);
    seats.open(0, Seat::new(greedy(), &[]));
    let step = step_words(0, &[(0, 0, &tokens(5))], &[]).parse(program.limits());
    assert_eq!(program.run(&step, &mut seats).unwrap(), []);
    let empty = step_words(1, &[], &[]).parse(program.limits());
    assert_eq!(program.run(&empty, &mut seats).unwrap(), []);
}

#[test]
fn more_samples_than_planned_are_refused_when_seats_advance() {
    let model = TinyModel::new("reference", DType::F32);
    let mut program = Program::compile(&model.spec).unwrap();
    let step = step_words(0, &[(0, 0, &tokens(5))], &[0, 1, 2, 3, 4]).parse(program.limits());
    let failure = program.run(&step, &mut Seats::new(4)).unwrap_err();
    assert!(failure.message.contains("5 sampled positions, allowed is 0 to 4"), "{failure}");
}

#[test]
fn info_tells_the_memory() {
    let model = TinyModel::new("reference", DType::F32);
    let program = Program::compile(&model.spec).unwrap();
    let info = program.info();
    assert_eq!(info.page_bytes, 2 * 2 * 2 * 16 * 16 * 4);
    assert_eq!(info.kv_bytes, info.page_bytes * i64::from(model.spec.num_blocks));
    assert!(info.activation_bytes > 0);
    assert!(program.description().contains("layers.1.attention: storeKv"), "{}", program.description());
}

/// Compiles a changed spec and gives the message.
fn refused(change: impl FnOnce(&mut ProgramSpec)) -> String {
    let mut model = TinyModel::new("reference", DType::Q8_0);
    change(&mut model.spec);
    Program::compile(&model.spec).err().expect("refused").message
}

fn op_mut<'a>(spec: &'a mut ProgramSpec, label: &str, name: &str) -> &'a mut Op {
    spec.ops.iter_mut().find(|op| op.label() == label && op.name() == name).expect("op")
}

#[test]
fn errors_of_the_tape_name_the_place_and_what_is_needed() {
    let cases: Vec<(String, &str)> = vec![
        (
            refused(|spec| spec.tensors.retain(|tensor| tensor.name != "layers.1.mlp.gates.up")),
            "layers.1.mlp.gates: linear: weight layers.1.mlp.gates.up is not in the model",
        ),
        (
            refused(|spec| spec.tensors[2].rows = 32),
            "tensor layers.0.attention.q: Q8_0 32 x 64 takes 2176 bytes, not 4352",
        ),
        (
            refused(|spec| spec.values[2].width = 96),
            "layers.0.attention: linear: weights have 128 rows in all, the output is 96 wide",
        ),
        (
            refused(|spec| {
                if let Op::StoreKv { layer, .. } = op_mut(spec, "layers.1.attention", "storeKv") {
                    *layer = 2;
                }
            }),
            "layers.1.attention: storeKv: layer 2: group 0 has 2",
        ),
        (
            refused(|spec| {
                if let Op::Attention { group, .. } = op_mut(spec, "layers.0.attention", "attention") {
                    *group = 1;
                }
            }),
            "layers.0.attention: attention: group 1: there are 1",
        ),
        (
            refused(|spec| {
                if let Op::Attention { soft_cap, .. } = op_mut(spec, "layers.0.attention", "attention") {
                    *soft_cap = Some(0.0);
                }
            }),
            "layers.0.attention: attention: softCap is 0, it must be above 0 and finite",
        ),
        (
            refused(|spec| {
                if let Op::Rope { dims, .. } = op_mut(spec, "layers.0.attention", "rope") {
                    *dims = 18;
                }
            }),
            "layers.0.attention: rope: rotates 18 columns, it must be even and at most headDim 16",
        ),
        (
            refused(|spec| {
                if let Op::SiluMul { x, out, .. } = op_mut(spec, "layers.0.mlp", "siluMul") {
                    std::mem::swap(x, out);
                }
            }),
            "layers.0.mlp: siluMul: reads value 9 before it is written",
        ),
        (
            refused(|spec| {
                if let Op::GatherSamples { x, .. } = op_mut(spec, "head", "gatherSamples") {
                    *x = 999;
                }
            }),
            "head: gatherSamples: value 999 is not declared",
        ),
        (refused(|spec| drop(spec.ops.pop())), "head: linear: sample must be the last op, and only the last"),
        (refused(|spec| spec.ops.clear()), "the tape is empty"),
        (refused(|spec| spec.vocab_size = 95), "embed: embed: weight embed is [96, 64], needs [95, 64]"),
        (refused(|spec| spec.tensors[0].offset = -1), "tensor embed: 12288 bytes at -1 lie outside"),
        (
            refused(|spec| spec.tensors[0].offset = i64::MAX),
            "tensor embed: 12288 bytes at 9223372036854775807",
        ),
        (refused(|spec| spec.tensors[0].file = 1), "tensor embed: is in file 1, there are 1"),
        (refused(|spec| spec.tensors[2].cols = 65), "tensor layers.0.attention.q: has 65 columns"),
        (refused(|spec| spec.files[0].push('x')), "cannot be read"),
        (refused(|spec| spec.max_rows = 0), "maxRows is 0, allowed is 1 to"),
        (refused(|spec| spec.max_samples = 0), "maxSamples is 0, allowed is 1 to"),
        (refused(|spec| spec.groups[0].window = 4), "group 0: window is 4 for kind Full, allowed is"),
        (
            refused(|spec| spec.groups[0].kind = GroupKind::Window),
            "group 0: window is 0 for kind Window, allowed is 1 or more for kind window",
        ),
        (
            refused(|spec| spec.groups[0].kind = GroupKind::State),
            "group 0: backend reference has no groups of kind State",
        ),
        (
            refused(|spec| {
                spec.groups[0].kind = GroupKind::Window;
                spec.groups[0].window = 9;
            }),
            "layers.0.attention: attention: sees all positions, group 0 keeps 9",
        ),
        (refused(|spec| spec.num_blocks = 1), "numBlocks is 1, allowed is 2 to"),
        (refused(|spec| spec.backend = "tpu".into()), "backend tpu: there is none; there are cpu, reference"),
        (
            // More than there are addresses: a system may give out more memory than it has.
            refused(|spec| {
                spec.num_blocks = i32::MAX as u32;
                spec.block_size = 4096;
            }),
            "KV blocks: ",
        ),
    ];
    for (message, expected) in cases {
        assert!(message.contains(expected), "{message}\n  lacks: {expected}");
    }
}

#[test]
fn what_a_backend_lacks_is_told_at_load() {
    let message = refused(|spec| {
        spec.backend = "cpu".into();
        spec.block_size = 12;
    });
    assert!(message.contains("blockSize is 12, supported are multiples of"), "{message}");
    let message = refused(|spec| {
        spec.backend = "cpu".into();
        if let Op::Attention { soft_cap, .. } = op_mut(spec, "layers.1.attention", "attention") {
            *soft_cap = Some(50.0);
        }
    });
    assert!(message.contains("softCap is 50, supported is none"), "{message}");
    let message = refused(|spec| {
        spec.backend = "cpu".into();
        spec.isa = "mmx".into();
    });
    assert!(message.contains("isa mmx: allowed are auto"), "{message}");
}

#[test]
fn kv_is_kept_as_asked_and_pages_of_types_are_never_alike() {
    let mut model = TinyModel::new("cpu", DType::F32);
    let mut seen = Vec::new();
    for (asked, kept) in [("auto", "q16"), ("q16", "q16"), ("f16", "f16"), ("bf16", "bf16"), ("q8", "q8")] {
        model.spec.kv_cache_dtype = Some(asked.into());
        let program = Program::compile(&model.spec).unwrap();
        let info = program.info();
        assert_eq!(info.kv_cache_dtype, kept);
        let bytes = page_bytes_on("cpu", &model.spec.groups, model.spec.block_size, Some(asked)).unwrap();
        assert_eq!(bytes, info.page_bytes as usize);
        seen.push(info.page_layout.clone());
    }
    assert_eq!(seen[0], seen[1]);
    model.spec.backend = "reference".into();
    model.spec.kv_cache_dtype = None;
    seen.push(Program::compile(&model.spec).unwrap().info().page_layout.clone());
    let distinct: std::collections::BTreeSet<&String> = seen.iter().collect();
    assert_eq!(distinct.len(), 5, "{seen:?}");
}

#[test]
fn a_type_of_kv_that_the_backend_lacks_is_refused_with_those_it_has() {
    for (backend, asked, allowed) in [
        ("cpu", "f32", "auto, q16, f16, bf16, q8"),
        ("reference", "bf16", "auto, f32"),
        ("null", "f16", "auto"),
        ("cuda", "bf16", "auto, f16"),
    ] {
        let failure = page_bytes_on(backend, &[], 16, Some(asked)).expect_err("refused");
        assert_eq!(failure.code, Code::Unsupported);
        assert!(failure.message.contains(&format!("kv-cache-dtype {asked}")), "{failure}");
        assert!(failure.message.ends_with(&format!("allows {allowed}")), "{failure}");
    }
}

#[test]
fn a_page_beyond_memory_is_an_error() {
    let group = KvGroup {
        layers: u32::MAX,
        num_kv_heads: u32::MAX,
        head_dim: u32::MAX,
        kind: GroupKind::Full,
        window: 0,
    };
    for backend in ["reference", "cpu"] {
        assert!(page_bytes_on(backend, &[group], u32::MAX, None).is_err());
    }
}
