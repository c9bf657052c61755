use super::*;
use crate::dtype::DType;
use crate::testing::{MAX_LEN, TinyModel, VOCABULARY, greedy, step_words};

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

#[test]
fn chunks_of_any_size_give_the_same_bits() {
    let model = TinyModel::new("reference", DType::Q4_1);
    let tokens = tokens(61);
    let whole = chunked(&mut Program::compile(&model.spec).unwrap(), &tokens, tokens.len());
    assert!(whole.iter().all(|x| x.is_finite()) && whole.iter().any(|&x| x != whole[0]));
    for chunk in [1, 7, 16, 40] {
        assert_eq!(chunked(&mut Program::compile(&model.spec).unwrap(), &tokens, chunk), whole, "chunk {chunk}");
    }
}

#[test]
fn other_rows_of_the_step_and_threads_change_no_bit() {
    let mut model = TinyModel::new("reference", DType::F16);
    let tokens = tokens(33);
    let alone = chunked(&mut Program::compile(&model.spec).unwrap(), &tokens, tokens.len());
    model.spec.threads = 3;
    let mut program = Program::compile(&model.spec).unwrap();
    let step = step_words(0, &[(3, 0, &tokens[5..20]), (1, 0, &tokens), (0, 0, &[4])], &[14, 47, 48])
        .parse(program.limits());
    let logits = program.logits(&step).unwrap();
    let width = VOCABULARY as usize;
    assert_eq!(logits[width..2 * width], alone);
}

#[test]
fn logits_of_more_positions_than_rows_are_those_of_each_alone() {
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
fn a_step_without_samples_only_fills_the_cache() {
    let model = TinyModel::new("reference", DType::F32);
    let mut program = Program::compile(&model.spec).unwrap();
    let mut seats = Seats::new(4);
    seats.open(0, greedy());
    let step = step_words(0, &[(0, 0, &tokens(5))], &[]).parse(program.limits());
    assert_eq!(program.run(&step, &mut seats).unwrap(), []);
    let empty = step_words(1, &[], &[]).parse(program.limits());
    assert_eq!(program.run(&empty, &mut seats).unwrap(), []);
}

#[test]
fn more_samples_than_rows_are_refused_when_seats_advance() {
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
        (refused(|spec| spec.tensors[0].offset = i64::MAX), "tensor embed: 12288 bytes at 9223372036854775807"),
        (refused(|spec| spec.tensors[0].file = 1), "tensor embed: is in file 1, there are 1"),
        (refused(|spec| spec.tensors[2].cols = 65), "tensor layers.0.attention.q: has 65 columns"),
        (refused(|spec| spec.files[0].push('x')), "cannot be read"),
        (refused(|spec| spec.max_rows = 0), "maxRows is 0, allowed is 1 to"),
        (refused(|spec| spec.num_blocks = 1), "numBlocks is 1, allowed is 2 to"),
        (refused(|spec| spec.backend = "tpu".into()), "backend tpu: there is none; there are cpu, reference"),
        (refused(|spec| spec.num_blocks = i32::MAX as u32), "KV blocks: "),
    ];
    for (message, expected) in cases {
        assert!(message.contains(expected), "{message}\n  lacks: {expected}");
    }
}

#[test]
fn a_page_beyond_memory_is_an_error() {
    let group = KvGroup { layers: u32::MAX, num_kv_heads: u32::MAX, head_dim: u32::MAX };
    assert!(page_bytes(&[group], u32::MAX, 4).is_err());
    assert_eq!(MAX_LEN % 16, 0);
}
