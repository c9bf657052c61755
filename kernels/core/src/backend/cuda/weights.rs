//! Checkpoint tensors on the device, in the planes and panels that `kernels.rs` lays down. Tensors that are read by several
//! ops (a tied embedding and output) are there once.

use super::device::Device;
use super::kernels::PANEL;
use super::memory::{ALIGNMENT, DeviceMemory};
use crate::backend::Tensor;
use crate::dtype::DType;
use crate::error::{Failure, Result};
use crate::ops::linear::blocks::{BLOCK, Block, Quantised, read};
use crate::pool::{Disjoint, Pool};
use cudarc::driver::CudaStream;
use half::f16;
use std::collections::HashMap;
use std::sync::Arc;

const PANEL_ROWS: usize = PANEL as usize;

/// Matrices of one format over the same columns, their rows behind each other.
#[derive(Debug)]
pub(super) struct Matrix {
    /// Name of the format, as kernels have it.
    pub(super) format: &'static str,
    pub(super) rows: usize,
    pub(super) cols: usize,
    memory: DeviceMemory,
    planes: Planes,
}

/// Where the planes begin, and all bytes.
#[derive(Clone, Copy, Debug)]
struct Planes {
    scales: usize,
    minima: usize,
    end: usize,
}

/// Name of a type's format, as kernels have it.
pub(super) fn format_of(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "f32",
        DType::F16 => "f16",
        DType::BF16 => "bf16",
        DType::Q4_0 => "q4_0",
        DType::Q4_1 => "q4_1",
        DType::Q5_0 | DType::Q8_0 => "q8_0",
        DType::Q5_1 => "q5_1",
        DType::Q4_K => "q4_k",
        DType::Q5_K => "q5_k",
        DType::Q6_K => "q6_k",
    }
}

impl Matrix {
    /// Address of the numbers.
    pub(super) fn numbers(&self) -> u64 {
        self.memory.at(0)
    }

    /// Address of the scales; 0 for floats.
    pub(super) fn scales(&self) -> u64 {
        if self.planes.scales == self.planes.end { 0 } else { self.memory.at(self.planes.scales) }
    }

    /// Address of the minima; 0 where there are none.
    pub(super) fn minima(&self) -> u64 {
        if self.planes.minima >= self.planes.end { 0 } else { self.memory.at(self.planes.minima) }
    }

    /// Whether activations become integers.
    pub(super) fn is_quantised(&self) -> bool {
        self.planes.scales != self.planes.end
    }

    fn upload(
        device: &Arc<Device>,
        stream: &CudaStream,
        pool: &mut Pool,
        tensors: &[Tensor<'_>],
    ) -> Result<Self> {
        let (dtype, cols) = (tensors[0].dtype, tensors[0].cols);
        let rows = tensors.iter().map(|tensor| tensor.rows).sum();
        let (planes, bytes) = if let Some(form) = Quantised::of(dtype) {
            pack(pool, form, tensors, rows)
        } else {
            let bytes: Vec<u8> = tensors.iter().flat_map(|tensor| tensor.bytes.iter().copied()).collect();
            (Planes { scales: bytes.len(), minima: bytes.len(), end: bytes.len() }, bytes)
        };
        let memory = DeviceMemory::holding(device, stream, &bytes)?;
        Ok(Self { format: format_of(dtype), rows, cols, memory, planes })
    }
}

/// How the planes of so many rows and columns lie.
struct Layout {
    panels: usize,
    blocks: usize,
    /// Bytes of a block's numbers, scales and minimum.
    each: [usize; 3],
    planes: Planes,
}

impl Layout {
    fn of(form: Quantised, rows: usize, cols: usize) -> Self {
        let (panels, blocks) = (rows.div_ceil(PANEL_ROWS), cols / BLOCK);
        let factor = factor_bytes(form);
        let each = [
            BLOCK * form.bits / 8,
            (1 + usize::from(form.halves)) * factor,
            if form.minimum { factor } else { 0 },
        ];
        let count = panels * PANEL_ROWS * blocks;
        let scales = (count * each[0]).next_multiple_of(ALIGNMENT);
        let minima = (scales + count * each[1]).next_multiple_of(ALIGNMENT);
        Self { panels, blocks, each, planes: Planes { scales, minima, end: minima + count * each[2] } }
    }
}

fn factor_bytes(form: Quantised) -> usize {
    if form.wide { 4 } else { 2 }
}

/// Bytes that a matrix of a type takes.
pub(super) fn packed_bytes(dtype: DType, rows: usize, cols: usize) -> usize {
    match Quantised::of(dtype) {
        Some(form) => Layout::of(form, rows, cols).planes.end,
        None => rows * dtype.row_bytes(cols),
    }
}

/// Panels of all rows; rows that are missing in the last one are zero.
fn pack(pool: &mut Pool, form: Quantised, tensors: &[Tensor<'_>], rows: usize) -> (Planes, Vec<u8>) {
    let Layout { panels, blocks, each, planes } = Layout::of(form, rows, tensors[0].cols);
    let mut bytes = vec![0; planes.end];
    let (numbers, factors) = bytes.split_at_mut(planes.scales);
    let (scales, minima) = factors.split_at_mut(planes.minima - planes.scales);
    let parts = [numbers, scales, minima].map(Disjoint::new);
    let all_rows: Vec<(DType, &[u8])> = tensors
        .iter()
        .flat_map(|tensor| (0..tensor.rows).map(move |row| (tensor.dtype, tensor.row(row))))
        .collect();
    pool.run(panels, &|panel, _| {
        let [numbers, scales, minima] = std::array::from_fn(|i| {
            let len = PANEL_ROWS * blocks * each[i];
            #[expect(unsafe_code, reason = "panels are written by different threads")]
            // SAFETY: each task writes its own panel.
            unsafe {
                parts[i].part(panel * len, len)
            }
        });
        let first = panel * PANEL_ROWS;
        for (lane, (dtype, row)) in all_rows[first..rows.min(first + PANEL_ROWS)].iter().enumerate() {
            for index in 0..blocks {
                let block = read(*dtype, row, index);
                let at = index * PANEL_ROWS + lane;
                put_numbers(form, &block, &mut numbers[at * each[0]..][..each[0]]);
                let to = &mut scales[at * each[1]..][..each[1]];
                for (to, &scale) in to.chunks_exact_mut(factor_bytes(form)).zip(&block.scales) {
                    put_factor(form, scale, to);
                }
                if form.minimum {
                    put_factor(form, block.minimum, &mut minima[at * each[2]..][..each[2]]);
                }
            }
        }
    });
    (planes, bytes)
}

fn put_numbers(form: Quantised, block: &Block, to: &mut [u8]) {
    if form.bits == 4 {
        for (i, word) in to.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            for (j, byte) in word.iter_mut().enumerate() {
                *byte = block.numbers[8 * i + j] as u8 | (block.numbers[8 * i + 4 + j] as u8) << 4;
            }
        }
    } else {
        for (to, &number) in to.iter_mut().zip(&block.numbers) {
            *to = number as u8;
        }
    }
}

fn put_factor(form: Quantised, factor: f32, to: &mut [u8]) {
    if form.wide {
        to.copy_from_slice(&factor.to_le_bytes());
    } else {
        // It came from f16: exact.
        to.copy_from_slice(&f16::from_f32(factor).to_le_bytes());
    }
}

/// All matrices on the device.
#[derive(Debug, Default)]
pub(super) struct Matrices {
    /// By place and number of the tensors' bytes.
    known: HashMap<Vec<(*const u8, usize)>, Arc<Matrix>>,
    bytes: usize,
}

// SAFETY: the addresses are names of tensors, and nobody follows them.
#[expect(unsafe_code, reason = "addresses as keys")]
unsafe impl Send for Matrices {}

impl Matrices {
    /// The matrix of these tensors, of one type and one number of columns; uploaded if it is not there.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub(super) fn of(
        &mut self,
        device: &Arc<Device>,
        stream: &CudaStream,
        pool: &mut Pool,
        tensors: &[Tensor<'_>],
    ) -> Result<Arc<Matrix>> {
        if tensors.is_empty() {
            return Err(Failure::internal("a matrix of no tensors"));
        }
        let key: Vec<_> = tensors.iter().map(|tensor| (tensor.bytes.as_ptr(), tensor.bytes.len())).collect();
        if let Some(matrix) = self.known.get(&key) {
            return Ok(Arc::clone(matrix));
        }
        let matrix = Arc::new(Matrix::upload(device, stream, pool, tensors)?);
        self.bytes += matrix.memory.len();
        self.known.insert(key, Arc::clone(&matrix));
        Ok(matrix)
    }

    /// Bytes of device memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
