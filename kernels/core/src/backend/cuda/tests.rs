//! What can be said without a device. With one, `suite.rs` runs on it.

use super::call::Call;
use super::ptx::Ptx;
use super::*;
use crate::backend::Operand;
use crate::op::Rows;
use crate::program::Program;
use crate::seats::{Seat, Seats};
use crate::testing::{Random, TinyModel, greedy, has_cuda, limits, step_words};

#[test]
fn names_ask_for_a_device_or_for_any() {
    for (name, asks) in [
        ("cuda", Some(Wanted::First)),
        ("cuda:0", Some(Wanted::Number(0))),
        ("cuda:12", Some(Wanted::Number(12))),
        ("cuda:", None),
        ("cuda:-1", None),
        ("cuda:x", None),
        ("cudax", None),
        ("cpu", None),
    ] {
        assert_eq!(wanted_in(name), asks, "{name}");
        assert_eq!(is_name(name), asks.is_some(), "{name}");
    }
}

#[test]
fn the_embedded_text_has_the_kernels_of_the_list_and_no_other() {
    let ptx = Ptx::embedded().unwrap();
    let listed: BTreeSet<String> = kernels::all().map(|(name, _)| name).collect();
    assert_eq!(ptx.names().map(str::to_owned).collect::<BTreeSet<_>>(), listed);
    for name in listed {
        let module = ptx.module(&name).unwrap().into_string().unwrap();
        assert!(module.starts_with("//") && module.contains("\n.target sm_80\n"), "{name}");
        assert_eq!(module.matches(".visible .entry ").count(), 1, "{name}");
        assert!(module.contains(&format!(".visible .entry {name}(")) && module.ends_with("\n}\n"), "{name}");
    }
}

/// Skipped where there is no device: [`has_cuda`].
fn backend() -> Option<CudaBackend> {
    has_cuda().then(|| CudaBackend::new("cuda", 2).unwrap())
}

#[test]
fn buffers_hold_what_was_put_there_and_nothing_else_is_reached() {
    let Some(mut cuda) = backend() else { return };
    let buffer = cuda.alloc(1000).unwrap();
    let mut found = vec![1; 1000];
    cuda.download(buffer, 0, &mut found).unwrap();
    assert!(found.iter().all(|&byte| byte == 0));
    cuda.upload(buffer, 990, &[7; 10]).unwrap();
    cuda.download(buffer, 989, &mut found[..11]).unwrap();
    assert_eq!(found[..11], [0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]);
    for (offset, len) in [(991, 10), (1001, 0), (0, 1001), (usize::MAX, 1)] {
        assert!(cuda.upload(buffer, offset, &vec![0; len]).is_err(), "{len} at {offset}");
    }
}

#[test]
fn pages_come_and_go_by_the_devices_own_copies() {
    let Some(mut cuda) = backend() else { return };
    let pages = cuda.alloc_pages(4096, 6).unwrap();
    let device = pages.remote().unwrap();
    let mut host = vec![0_u8; 4 * 4096];
    device.fill(5, 9).unwrap();
    {
        let (pinned, pageable) = host.split_at_mut(2 * 4096);
        let pin = device.pin(pinned.as_mut_ptr(), pinned.len()).unwrap();
        for (i, page) in pinned.chunks_exact_mut(4096).chain(pageable.chunks_exact_mut(4096)).enumerate() {
            page.fill(i as u8 + 1);
            device.load(&[(&*page, i + 1)]).unwrap();
        }
        drop(pin);
    }
    let arena = Arena { pages: pages.clone(), block_size: 16, element_bytes: 2, groups: vec![] };
    cuda.copy_pages(&arena, &[[4, 1], [1, 3], [5, 2]]).unwrap();
    let mut places: Vec<(usize, &mut [u8])> =
        host.chunks_exact_mut(4096).enumerate().map(|(i, page)| (i + 1, page)).collect();
    device.store(&mut places).unwrap();
    let found: Vec<u8> = host.iter().step_by(4096).copied().collect();
    assert_eq!(found, [4, 9, 4, 4]);
    assert!(host.chunks_exact(4096).all(|page| page.iter().all(|byte| *byte == page[0])));
    assert!(device.load(&[(&host[..4096], 6)]).is_err());
    assert!(device.load(&[(&host[..4095], 1)]).is_err());
}

#[test]
fn arguments_that_are_not_the_kernels_are_refused_before_the_launch() {
    let Some(cuda) = backend() else { return };
    let message = |call: Call<'_>| {
        #[expect(unsafe_code, reason = "nothing is launched")]
        // SAFETY: the call is refused.
        unsafe { call.launch(&cuda.stream, [1, 1, 1], 32, 0) }.unwrap_err().message
    };
    let call = || Call::of(&cuda.device, "add_f32").unwrap().pointer(0).pointer(0);
    assert_eq!(message(call().pointer(0)), "3 arguments, the kernel has 4");
    assert_eq!(message(call().int(1)), "argument 2 is for parameter Some(Pointer(\"y\"))");
    assert_eq!(message(call().pointer(0).int(1 << 40)), "1099511627776 is more than an i32 holds");
    assert_eq!(message(call().pointer(0).int(1).int(1)), "argument 4 is for parameter None");
    let missing = Call::of(&cuda.device, "nothing").err().unwrap();
    assert_eq!(missing.message, "there is no kernel nothing in this build");
}

const WIDTH: usize = 96;
const OUT: usize = 33;

/// Places behind each other, each for as many rows as a step may have.
fn place(index: usize, width: usize) -> Operand {
    Operand { offset: index * limits().max_tokens * 2 * WIDTH * size_of::<f32>(), width, rows: Rows::Tokens }
}

/// An op whose last value is at place 3, from what is at places 0 and 1, and a linear behind it.
fn pair(cuda: &mut CudaBackend, op: Op, inputs: &[usize], dtype: DType) -> Vec<Instruction> {
    let mut random = Random(3);
    let norm = random.tensor("norm", DType::F32, 1, WIDTH, 1.0);
    let prepared = cuda.prepare(&op, &op.weights().iter().map(|_| norm).collect::<Vec<_>>()).unwrap();
    let num_outputs = op.outputs().len();
    let first = Instruction {
        op,
        inputs: inputs.iter().enumerate().map(|(i, &width)| place(i, width)).collect(),
        outputs: (4 - num_outputs..4).map(|i| place(i, WIDTH)).collect(),
        prepared,
    };
    let weights = vec!["w".to_owned()];
    let op = Op::Linear { label: "linear".into(), x: 0, weights, biases: vec![], out: 1 };
    let prepared = cuda.prepare(&op, &[random.tensor("w", dtype, OUT, WIDTH, 1.0)]).unwrap();
    let linear = Instruction { op, inputs: vec![place(3, WIDTH)], outputs: vec![place(4, OUT)], prepared };
    vec![first, linear]
}

fn norm_op() -> Op {
    Op::RmsNorm { label: "norm".into(), x: 0, weight: "norm".into(), eps: 1e-5, out: 1 }
}

#[test]
fn a_linear_has_the_same_bits_whether_its_integers_were_written_by_the_op_before_it_or_not() {
    if !has_cuda() {
        return;
    }
    let (label, weight) = ("norm".to_owned(), "norm".to_owned());
    let add = Op::AddRmsNorm { label, x: 0, residual: 1, weight, eps: 1e-5, sum: 2, out: 3 };
    let silu = Op::SiluMul { label: "silu".into(), x: 0, out: 1 };
    let device = CudaBackend::device("cuda").unwrap();
    for (op, inputs) in [(norm_op(), vec![WIDTH]), (add, vec![WIDTH; 2]), (silu, vec![2 * WIDTH])] {
        for (rows, dtype) in [(1, DType::Q4_1), (7, DType::Q8_0), (40, DType::Q5_1)] {
            let outputs = [true, false].map(|together| {
                let mut cuda = CudaBackend::on(Arc::clone(&device), 1).unwrap();
                let pages = cuda.alloc_pages(4096, 2).unwrap();
                let arena = Arena { pages, block_size: 16, element_bytes: 2, groups: vec![] };
                let activations = cuda.alloc(place(5, 0).offset).unwrap();
                let instructions = pair(&mut cuda, op.clone(), &inputs, dtype);
                assert!(cuda.takes_integers_of(&instructions[0], &instructions[1]));
                cuda.reserve(&limits()).unwrap();
                let mut random = Random(rows as u64);
                for operand in &instructions[0].inputs {
                    let values = random.normals(rows * operand.width);
                    let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
                    cuda.upload(activations, operand.offset, &bytes).unwrap();
                }
                let tokens = vec![1; rows];
                let step = step_words(0, &[(0, 0, &tokens)], &[]).parse(&limits());
                let (mut seats, mut sampled) = (Seats::new(1), Vec::new());
                let mut launch = Launch {
                    step: &step,
                    activations,
                    arena: &arena,
                    seats: &mut seats,
                    sampled: &mut sampled,
                };
                if together {
                    cuda.run(&instructions, &mut launch).unwrap();
                } else {
                    for one in &instructions {
                        cuda.launch(one, &mut launch).unwrap();
                    }
                }
                let mut bytes = vec![0; rows * OUT * size_of::<f32>()];
                cuda.download(activations, place(4, OUT).offset, &mut bytes).unwrap();
                bytes
            });
            assert!(outputs[0].iter().any(|&byte| byte != 0));
            assert_eq!(outputs[0], outputs[1], "{} {rows} {dtype:?}", op.name());
        }
    }
}

#[test]
fn integers_are_written_before_a_linear_that_takes_just_them() {
    let Some(mut cuda) = backend() else { return };
    let quantised = pair(&mut cuda, norm_op(), &[WIDTH], DType::Q4_1);
    let floats = pair(&mut cuda, norm_op(), &[WIDTH], DType::F16);
    let mut other = quantised[1].clone();
    other.inputs = vec![place(2, WIDTH)];
    assert!(cuda.takes_integers_of(&quantised[0], &quantised[1]));
    assert!(!cuda.takes_integers_of(&floats[0], &floats[1]));
    assert!(!cuda.takes_integers_of(&quantised[0], &other));
    assert!(!cuda.takes_integers_of(&quantised[1], &other));
}

/// How often memory was asked for where the emulated driver counts that; else how much is free.
#[expect(unsafe_code, reason = "asks the emulated driver")]
fn memory_taken(cuda: &Device) -> usize {
    // SAFETY: the driver is loaded; its own function, if it is there, takes nothing.
    let counted = unsafe {
        let driver = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD);
        let count = libc::dlsym(driver, c"cuemu_allocations".as_ptr());
        (!count.is_null())
            .then(|| std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> usize>(count)())
    };
    counted.unwrap_or_else(|| cuda.memory().unwrap().0)
}

#[test]
fn no_step_takes_memory() {
    if !has_cuda() {
        return;
    }
    let device = CudaBackend::device("cuda").unwrap();
    let model = TinyModel::new("cuda", DType::Q4_1);
    let mut program = Program::compile(&model.spec).unwrap();
    let (max_rows, max_len) = (program.limits().max_rows, program.limits().max_model_len);
    let mut seats = Seats::new(max_rows);
    (0..max_rows).for_each(|seat| seats.open(seat, Seat::new(greedy(), &[])));
    let before = memory_taken(&device);
    // A prompt, then every size of the ladder, each at the length of one split and at the longest.
    let mut steps = vec![step_words(0, &[(0, 0, &[1, 2, 3])], &[2])];
    for rows in 1..=max_rows {
        for position in [3, max_len - 1] {
            let all: Vec<_> = (0..rows).map(|seat| (seat, position, &[5][..])).collect();
            steps.push(step_words(0, &all, &(0..rows).collect::<Vec<_>>()));
        }
    }
    for words in steps {
        let step = words.parse(program.limits());
        assert_eq!(program.run(&step, &mut seats).unwrap().len(), step.samples.len());
        assert_eq!(memory_taken(&device), before, "{} rows", step.rows.len());
    }
}
