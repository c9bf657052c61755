//! Linear on the CPU: `out = x · Wᵀ + bias` with one numeric definition at every row count. For quantised weights:
//! activations are rounded to 8 bits per block of 32 ([`activations`]), the block's dot product is an exact integer, and
//! one f32 sum per output takes the blocks in ascending order,
//! `sum = fma(dot * scale, d, sum)`, then with a minimum `sum = fma(minimum, d * sum_of_numbers, sum)`.
//! For float weights `sum = fma(w, x, sum)` in ascending columns. Columns are never split, so the bits depend neither on
//! the number of rows nor on the threads nor on the instruction set.

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod errand;
mod factors;
mod format;
mod gated;
mod isa;
mod kernel;
pub mod largest;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod portable;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use crate::backend::Tensor;
use crate::backend::cpu::memory::{Memory, Region};
use crate::error::Result;
use crate::pool::{Disjoint, Pool};
use crate::simd::Isa;
use activations::{Activations, Form, Group, Rows};
use errand::{Errand, Parts};
use format::{BLOCK, Format};
use isa::{lanes, most_rows};
use kernel::{Call, Kernel, LINE};
use largest::Largest;

/// Rows of the input that are worked on together, so that their numbers stay in the second-level cache: whole groups of 6 and of 4.
/// With twice as many prompts are 3 to 7 % slower (measured on Zen 4).
const ROWS_TOGETHER: usize = 60;

/// Lines of the next panel that a group asks for with each block, at least, where others have an errand.
const DENSE: usize = 4;

/// Rows of the largest panel, and of the largest group.
const MOST_HEIGHT: usize = 32;
const MOST_ROWS: usize = 6;

thread_local! {
    /// What a thread makes of the panels that it works on: of a gate and what it gates, two each; or rows of an input.
    static ROOM: RefCell<[Vec<f32>; 4]> = const { RefCell::new([const { Vec::new() }; 4]) };
}

/// One weight matrix, packed.
struct Matrix {
    format: Format,
    kernel: Option<Kernel>,
    form: Form,
    rows: usize,
    panel_bytes: usize,
    /// Of this matrix, or of two whose panels take turns.
    panels: Arc<Region>,
    /// Bytes before the first panel, and from one to the next.
    start: usize,
    stride: usize,
    /// First column of the output.
    column: usize,
    /// First panel, counted over all matrices of the linear.
    first_panel: usize,
}

/// A panel of a matrix as its kernel reads it.
struct Panel<'a> {
    matrix: &'a Matrix,
    bytes: &'a [u8],
    factors: &'a [f32],
    ahead: Ahead<'a>,
}

/// What the groups of a panel ask the caches for: the first ones for what the same linear reads, the others for parts of an errand.
struct Ahead<'a> {
    from: *const u8,
    /// Groups that ask from there on, the bytes that each asks for, and so many lines with each block.
    turns: usize,
    each: usize,
    lines: usize,
    errand: Parts<'a>,
    blocks: usize,
}

impl<'a> Ahead<'a> {
    /// A group of one row asks near what it reads; `turns` groups of `rows` rows ask for the `next` panel, for all of it when the last
    /// one has been there.
    fn new(
        isa: Isa,
        panel: &[u8],
        next: &[u8],
        format: Format,
        blocks: usize,
        [rows, turns]: [usize; 2],
        errand: &'a Errand,
    ) -> Self {
        let (from, len) = match isa::near(isa, format).filter(|_| rows == 1) {
            Some(near) => (panel.as_ptr().wrapping_add(near), panel.len()),
            None if format.asks(rows) => (next.as_ptr(), next.len()),
            None => (next.as_ptr(), 0),
        };
        // One group alone reads longer than it computes: it has no time for errands.
        let free = turns > 1 && format.is_quantised();
        let least = if free && errand.is_open() { DENSE } else { 1 };
        let all = len / LINE;
        let lines = all.div_ceil(turns * blocks).max(least);
        let own = all.div_ceil(lines * blocks);
        let errand = errand.take(if free { turns - own } else { 0 });
        Self { from, turns: own, each: lines * blocks * LINE, lines, errand, blocks }
    }

    /// From where on the `turn`th group asks, and for how many lines with each block.
    fn of(&self, turn: usize) -> (*const u8, usize) {
        if turn < self.turns {
            return (self.from.wrapping_add(turn * self.each), self.lines);
        }
        let part = self.errand.get(turn - self.turns);
        part.map_or((self.from, 0), |(from, lines)| (from, lines.div_ceil(self.blocks)))
    }
}

fn panel_bytes(isa: Isa, tensor: &Tensor<'_>) -> usize {
    Format::of(tensor.dtype).panel_bytes(2 * lanes(isa), tensor.cols)
}

/// Whether these are two matrices of one shape, as a gate and what it gates are.
fn is_pair(isa: Isa, tensors: &[Tensor<'_>]) -> bool {
    match tensors {
        [a, b] => a.rows == b.rows && panel_bytes(isa, a) == panel_bytes(isa, b),
        _ => false,
    }
}

/// Several matrices over one input.
pub struct Linear {
    isa: Isa,
    cols: usize,
    width: usize,
    matrices: Vec<Matrix>,
    /// Of all matrices.
    panels: usize,
    /// Whether the panels of two matrices take turns.
    paired: bool,
    bias: Vec<f32>,
}

/// Where the sums of a linear go.
struct Output<'a> {
    /// `[rows, width]`.
    rows: Disjoint<'a, f32>,
    largest: &'a Largest,
}

/// Input in each form.
type Forms = [Activations; 3];

/// Input in the forms that kernels need, kept between calls.
pub struct Scratch {
    forms: Forms,
    /// What a gate leaves for the linear behind it.
    gated: Forms,
    /// What linears do beside their work.
    pub errand: Errand,
}

impl Scratch {
    /// Empty.
    pub fn new(isa: Isa) -> Self {
        let most = most_rows(isa);
        let forms = || [Form::Bytes, Form::Words, Form::Floats].map(|form| Activations::new(form, most));
        Self { forms: forms(), gated: forms(), errand: Errand::default() }
    }
}

impl Matrix {
    /// Writes the panels of a matrix into zeroed memory, the first at `start`, each `stride` bytes behind the one before.
    fn pack(isa: Isa, pool: &mut Pool, tensor: &Tensor<'_>, to: &mut [u8], start: usize, stride: usize) {
        let height = 2 * lanes(isa);
        let panel_bytes = panel_bytes(isa, tensor);
        let row_bytes = tensor.dtype.row_bytes(tensor.cols);
        let bias = isa::bias(isa);
        let packed = Disjoint::new(to);
        pool.run(tensor.rows.div_ceil(height), &|p, _| {
            let rows = (p * height..tensor.rows.min((p + 1) * height))
                .map(|r| &tensor.bytes[r * row_bytes..][..row_bytes]);
            #[expect(unsafe_code, reason = "panels are written by different threads")]
            // SAFETY: each task writes its own panel.
            let panel = unsafe { packed.part(start + p * stride, panel_bytes) };
            pack::pack_panel(tensor.dtype, rows, tensor.cols, lanes(isa), bias, panel);
        });
    }

    /// A packed matrix; see [`Self::pack`].
    fn new(
        isa: Isa,
        tensor: &Tensor<'_>,
        panels: Arc<Region>,
        [start, stride]: [usize; 2],
        [column, first_panel]: [usize; 2],
    ) -> Self {
        let format = Format::of(tensor.dtype);
        let (kernel, form) = (isa::kernel(isa, format), isa::form(isa, format));
        let (rows, panel_bytes) = (tensor.rows, panel_bytes(isa, tensor));
        Self { format, kernel, form, rows, panel_bytes, panels, start, stride, column, first_panel }
    }
}

impl Linear {
    /// Packs the weights; `tensors` are the matrices, then one bias for each or none.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn pack(
        isa: Isa,
        pool: &mut Pool,
        memory: &mut Memory,
        tensors: &[Tensor<'_>],
        biases: &[Vec<f32>],
    ) -> Result<Self> {
        let mut matrices = Vec::with_capacity(tensors.len());
        let (mut width, mut panels) = (0, 0);
        let paired = is_pair(isa, tensors);
        // A step reads one stream of bytes from start to end: a gate and what it gates are read together.
        for together in tensors.chunks(if paired { 2 } else { 1 }) {
            let bytes = panel_bytes(isa, &together[0]);
            let stride = together.len() * bytes;
            let count = together[0].rows.div_ceil(2 * lanes(isa));
            let mut region = memory.take(count * stride)?;
            for (i, tensor) in together.iter().enumerate() {
                Matrix::pack(isa, pool, tensor, region.bytes_mut(), i * bytes, stride);
            }
            let region = Arc::new(region);
            for (i, tensor) in together.iter().enumerate() {
                let place = [i * bytes, stride];
                matrices.push(Matrix::new(isa, tensor, Arc::clone(&region), place, [width, panels]));
                width += tensor.rows;
                panels += count;
            }
        }
        Ok(Self { isa, cols: tensors[0].cols, width, matrices, panels, paired, bias: biases.concat() })
    }

    /// Takes `x`, `[rows, cols]`, as the input of what is run next.
    pub fn take(&self, pool: &mut Pool, scratch: &mut Scratch, x: &[f32]) {
        self.take_rows(pool, scratch, &Rows::Given(x), x.len() / self.cols);
    }

    /// As [`Self::take`], of rows that `make` writes, each once, to memory for as many; for those that [`Self::takes_made`].
    pub fn take_made(
        &self,
        pool: &mut Pool,
        scratch: &mut Scratch,
        rows: usize,
        make: &(dyn Fn(Range<usize>, &mut [f32]) + Sync),
    ) {
        self.take_rows(pool, scratch, &Rows::Made(make), rows);
    }

    /// Whether the input is brought into one form only.
    pub fn takes_made(&self) -> bool {
        self.matrices.iter().all(|matrix| matrix.form == self.matrices[0].form)
    }

    fn take_rows(&self, pool: &mut Pool, scratch: &mut Scratch, from: &Rows<'_>, rows: usize) {
        for activations in &mut scratch.forms {
            if self.matrices.iter().any(|m| m.form == activations.form()) {
                activations.fill(self.isa, pool, from, rows, self.cols);
            }
        }
    }

    /// `out = x · Wᵀ + bias` for the `rows` rows that were taken.
    pub fn run(&self, pool: &mut Pool, scratch: &Scratch, rows: usize, out: &mut [f32]) {
        self.run_with(pool, scratch, rows, &Largest::default(), out);
    }

    /// As [`Self::run`], but what `largest` wants of rows goes there, and those are not written.
    pub fn run_with(
        &self,
        pool: &mut Pool,
        scratch: &Scratch,
        rows: usize,
        largest: &Largest,
        out: &mut [f32],
    ) {
        let to = Output { rows: Disjoint::new(out), largest };
        self.multiply(pool, &scratch.forms, &scratch.errand, rows, &to);
    }

    /// Runs `job(panel, groups)` for each of so many panels (or blocks) and all groups of `rows` rows. Groups that are worked on
    /// together go through all panels before the next ones do.
    fn by_panels(
        &self,
        pool: &mut Pool,
        panels: usize,
        rows: usize,
        job: impl Fn(usize, Range<usize>) + Sync,
    ) {
        let groups = rows.div_ceil(most_rows(self.isa));
        let together = ROWS_TOGETHER / most_rows(self.isa);
        if groups == 1 {
            // Memory decides.
            return pool.stream(panels, &|panel, _| job(panel, 0..1));
        }
        pool.share(panels * groups.div_ceil(together), &|units, _| {
            for unit in units {
                let first = unit / panels * together;
                job(unit % panels, first..groups.min(first + together));
            }
        });
    }

    /// The matrix that a panel belongs to, and which of its panels it is.
    fn place(&self, panel: usize) -> (&Matrix, usize) {
        if self.paired {
            return (&self.matrices[panel % 2], panel / 2);
        }
        let after = self.matrices.partition_point(|m| m.first_panel <= panel);
        let matrix = &self.matrices[after - 1];
        (matrix, panel - matrix.first_panel)
    }

    /// `out = x · Wᵀ + bias`, `x` in the forms that the matrices need.
    fn multiply(&self, pool: &mut Pool, forms: &Forms, errand: &Errand, rows: usize, to: &Output<'_>) {
        if rows == 0 {
            return;
        }
        self.by_panels(pool, self.panels, rows, |panel, groups| {
            let (matrix, panel) = self.place(panel);
            self.product(matrix, panel, &forms[matrix.form as usize], groups, errand, to);
        });
    }

    /// A panel as kernels read it, for `turns` groups of `rows` rows; `room` is for what is made of it first.
    fn panel<'a>(
        &'a self,
        matrix: &'a Matrix,
        panel: usize,
        [rows, turns]: [usize; 2],
        errand: &'a Errand,
        room: &'a mut Vec<f32>,
    ) -> Panel<'a> {
        let behind = &matrix.panels.bytes()[matrix.start + panel * matrix.stride..];
        let bytes = &behind[..matrix.panel_bytes];
        let next =
            behind.get(matrix.stride..).map_or(&[][..], |next| &next[..matrix.panel_bytes.min(next.len())]);
        if rows > 1 {
            factors::multiply(self.isa, matrix.format, 2 * lanes(self.isa), self.cols, bytes, room);
        }
        let blocks = self.cols.div_ceil(BLOCK);
        let ahead = Ahead::new(self.isa, bytes, next, matrix.format, blocks, [rows, turns], errand);
        Panel { matrix, bytes, factors: room, ahead }
    }

    /// Writes the sums of one panel and one group, the `turn`th there, to `out`, the rows `apart` floats from each other.
    ///
    /// # Safety
    /// There is room for as many floats as a panel has rows, of each row of the group, and it is the caller's alone.
    #[expect(unsafe_code, reason = "calls kernels")]
    unsafe fn sums(
        &self,
        panel: &Panel<'_>,
        activations: &Activations,
        group: Group,
        turn: usize,
        (out, apart): (*mut f32, usize),
    ) {
        let (ahead, lines) = panel.ahead.of(turn);
        let call = Call {
            weights: panel.bytes.as_ptr(),
            factors: panel.factors.as_ptr(),
            cols: self.cols,
            numbers: activations.numbers(group),
            scales: activations.scales(group),
            rows: group.len,
            ahead,
            lines,
            out,
            apart,
        };
        // SAFETY: `self.isa` is the proof of the instruction set that `kernel` was chosen by; panel and group are
        // whole, and groups have at most `most_rows` rows. The output is as the caller says.
        unsafe {
            match panel.matrix.kernel {
                Some(kernel) => kernel(&call),
                None => portable::run(panel.matrix.format, &call),
            }
        }
    }

    /// One panel and several groups.
    #[expect(unsafe_code, reason = "panels of the output are written by different threads")]
    fn product(
        &self,
        matrix: &Matrix,
        index: usize,
        activations: &Activations,
        groups: Range<usize>,
        errand: &Errand,
        to: &Output<'_>,
    ) {
        let Output { rows: out, largest } = to;
        let height = 2 * lanes(self.isa);
        let len = height.min(matrix.rows - index * height);
        let column = matrix.column + index * height;
        let place = |row: usize| row * self.width + column;
        ROOM.with_borrow_mut(|[room, ..]| {
            let rows = activations.group(groups.start).len;
            let panel = self.panel(matrix, index, [rows, groups.len()], errand, room);
            for (turn, index) in groups.enumerate() {
                let group = activations.group(index);
                let written = (group.first..group.first + group.len).all(|row| !largest.has(row));
                if len == height && self.bias.is_empty() && written {
                    let last = place(group.first + group.len - 1);
                    // SAFETY: a panel's columns of a row are written by one task, once; the last ones are inside.
                    unsafe {
                        let out = out.from(place(group.first), last - place(group.first) + len);
                        self.sums(&panel, activations, group, turn, (out, self.width));
                    }
                    continue;
                }
                let mut tile = [[0.0; MOST_HEIGHT]; MOST_ROWS];
                // SAFETY: the tile is large enough.
                unsafe {
                    self.sums(&panel, activations, group, turn, (tile.as_mut_ptr().cast(), MOST_HEIGHT));
                }
                for (t, sums) in tile[..group.len].iter_mut().enumerate() {
                    let row = group.first + t;
                    if !self.bias.is_empty() {
                        sums.iter_mut().zip(&self.bias[column..]).for_each(|(sum, bias)| *sum += bias);
                    }
                    if largest.has(row) {
                        sums[len..].fill(f32::NEG_INFINITY);
                        largest.take(self.isa, row, column, sums);
                        continue;
                    }
                    // SAFETY: a panel's columns of a row are written by one task, once.
                    unsafe { out.part(place(row), len) }.copy_from_slice(&sums[..len]);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
