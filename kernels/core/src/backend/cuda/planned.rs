//! How much device memory a program takes beside its KV blocks, before anything is taken.

use super::reserve::{Needs, Reserve};
use super::weights::packed_bytes;
use crate::dtype::DType;
use crate::error::{Failure, Result};
use crate::op::Op;
use crate::plan;
use crate::program::{ProgramSpec, limits};
use crate::weights::TensorSource;
use std::collections::HashMap;

/// The driver's own: the context, the kernels, what it rounds allocations up by.
const DRIVER: usize = 300 << 20;

/// Bytes for weights, activations and what steps need, about: rounding of allocations comes on top, and is within what is
/// set aside for the driver.
///
/// # Errors
/// `bad_model` for a weight that is not in the list, `internal` for limits of ours.
pub fn program_bytes(spec: &ProgramSpec) -> Result<usize> {
    let limits = limits(spec)?;
    let tensors: HashMap<&str, &TensorSource> =
        spec.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut weights: HashMap<&str, usize> = HashMap::new();
    let mut needs = Needs::default();
    for op in &spec.ops {
        for name in op.weights() {
            let tensor = tensors.get(name).ok_or_else(|| {
                Failure::bad_model(format!("{}: weight {name} is not in the model", op.label()))
            })?;
            let (rows, cols) = (tensor.rows as usize, tensor.cols as usize);
            let matrix = matches!(op, Op::Embed { .. } | Op::Linear { .. }) && rows > 1;
            let dtype = if matrix { tensor.dtype } else { DType::F32 };
            weights.insert(name, packed_bytes(dtype, rows, cols));
        }
        needs.op(op, |name| tensors.get(name).map(|tensor| (tensor.dtype, tensor.cols as usize)));
    }
    let activations = plan::plan(&spec.values, &spec.ops, limits.max_tokens, limits.max_samples).bytes;
    Ok(weights.values().sum::<usize>() + activations + Reserve::bytes(&needs, &limits) + DRIVER)
}
