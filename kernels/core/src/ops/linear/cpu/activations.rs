//! One side of a linear brought into the form that kernels read: rows in *groups*, numbers of a group interleaved so that
//! a kernel walks through them in one stream.
//!
//! ```text
//! Bytes   [group][block][row of the group][32] i8
//! Words   the same as i16; inside four columns the order is 0, 2, 1, 3 (even and odd bytes of a weight lane)
//! Floats  [group][column][row of the group] f32
//! scales  [group][block][d | d * sum | start | start of the first half | start of the second][row of the group], for Bytes
//!         and Words
//! ```
//!
//! A block's numbers are `round(x * 127 / amax)`, ties to even, `d = amax / 127`. They depend on that row and that block
//! only. A block of tiny numbers is zero; one with an infinity or NaN has `d = NaN`, which shows in all outputs.
//!
//! A *start*, an i32, is what a product with stored weights is added to: what they are too large by is in it. It is `-8 * sum`
//! of a block, `-32 * sum` of a half of 16 columns.

use std::ops::Range;

use super::ROOM;
use super::format::BLOCK;
use crate::pool::{Disjoint, Pool};
use crate::simd::{Isa, Simd, with_simd};

/// Form of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// i8.
    Bytes,
    /// i16.
    Words,
    /// f32.
    Floats,
}

/// Scales of a block of a row.
pub(super) const SCALES: usize = 5;
/// A multiple of it is what stored weights are too large by.
pub(super) const ZERO_UNIT: i32 = 8;
/// The same of those with a scale for each half of a block.
pub(super) const HALVES_ZERO_UNIT: i32 = 32;
/// Blocks whose largest magnitude is below this are taken as zero: `127 / amax` must stay finite.
const TINY: f32 = 1e-30;
/// Below this many numbers threads cost more than they bring.
const SERIAL: usize = 8192;

/// Rows in one form. Memory is kept for the next use.
pub(super) struct Activations {
    form: Form,
    most: usize,
    cols: usize,
    groups: Vec<Group>,
    numbers: Vec<u32>,
    scales: Vec<f32>,
}

/// Where rows come from.
pub(super) enum Rows<'a> {
    /// `[rows, cols]`.
    Given(&'a [f32]),
    /// These rows are written to memory for as many, where they are wanted.
    Made(&'a (dyn Fn(Range<usize>, &mut [f32]) + Sync)),
}

/// A group of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// First row.
    pub(super) first: usize,
    /// Number of rows.
    pub(super) len: usize,
}

impl Activations {
    /// Empty; a group has at most `most` rows.
    pub(super) fn new(form: Form, most: usize) -> Self {
        Self { form, most, cols: 0, groups: Vec::new(), numbers: Vec::new(), scales: Vec::new() }
    }

    /// Form of the numbers.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Number of groups.
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Group `index`: sizes differ by one at most.
    pub(super) fn group(&self, index: usize) -> Group {
        self.groups[index]
    }

    /// Numbers of a group.
    pub(super) fn numbers(&self, group: Group) -> *const u8 {
        let bytes = group.first * self.cols * size(self.form);
        self.numbers.as_ptr().cast::<u8>().wrapping_add(bytes)
    }

    /// Scales of a group.
    pub(super) fn scales(&self, group: Group) -> *const f32 {
        self.scales.as_ptr().wrapping_add(group.first * SCALES * (self.cols / BLOCK))
    }

    /// Makes room for `rows` rows of `cols` columns; `cols` is a multiple of 32 unless the form is floats.
    pub(super) fn begin(&mut self, rows: usize, cols: usize) {
        self.cols = cols;
        let count = rows.div_ceil(self.most);
        let first = |index: usize| rows * index / count;
        self.groups.clear();
        self.groups.extend(
            (0..count).map(|index| Group { first: first(index), len: first(index + 1) - first(index) }),
        );
        let words = (rows * cols * size(self.form)).div_ceil(4);
        if self.numbers.len() < words {
            self.numbers.resize(words, 0);
        }
        let scales = rows * SCALES * self.blocks();
        if self.scales.len() < scales {
            self.scales.resize(scales, 0.0);
        }
    }

    /// Blocks of a row that have scales.
    fn blocks(&self) -> usize {
        if self.form == Form::Floats { 0 } else { self.cols / BLOCK }
    }

    /// Takes `rows` rows of `cols` columns.
    #[expect(unsafe_code, reason = "groups are written by different threads")]
    pub(super) fn fill(&mut self, isa: Isa, pool: &mut Pool, from: &Rows<'_>, rows: usize, cols: usize) {
        self.begin(rows, cols);
        self.written(|this, numbers, scales| {
            let blocks = this.blocks();
            let put = |group: Group, x: &[f32]| {
                let start = group.first * cols * size(this.form) / 4;
                let len = group.len * cols * size(this.form) / 4;
                // SAFETY: groups are disjoint ranges of rows, and each is filled by one task.
                let (numbers, scales) = unsafe {
                    let each = SCALES * blocks;
                    (numbers.part(start, len), scales.part(group.first * each, group.len * each))
                };
                match this.form {
                    Form::Floats => interleave(x, cols, numbers),
                    Form::Bytes => {
                        with_simd!(isa, s => quantise::<_, false>(s, x, cols, group.len, numbers, scales));
                    }
                    Form::Words => {
                        with_simd!(isa, s => quantise::<_, true>(s, x, cols, group.len, numbers, scales));
                    }
                }
            };
            let fill = |index: usize| {
                let group = this.group(index);
                let rows = group.first..group.first + group.len;
                match from {
                    Rows::Given(x) => put(group, &x[rows.start * cols..rows.end * cols]),
                    Rows::Made(make) => ROOM.with_borrow_mut(|[room, ..]| {
                        room.resize(group.len * cols, 0.0);
                        make(rows, room);
                        put(group, room);
                    }),
                }
            };
            if rows * cols <= SERIAL {
                (0..this.groups()).for_each(fill);
            } else {
                pool.share(this.groups(), &|groups, _| groups.for_each(fill));
            }
        });
    }

    /// Lends the memory of numbers and scales to `write`.
    fn written(&mut self, write: impl FnOnce(&Self, &Disjoint<'_, u32>, &Disjoint<'_, f32>)) {
        let mut numbers = std::mem::take(&mut self.numbers);
        let mut scales = std::mem::take(&mut self.scales);
        write(self, &Disjoint::new(&mut numbers), &Disjoint::new(&mut scales));
        (self.numbers, self.scales) = (numbers, scales);
    }

    /// After [`Self::begin`]: lets the threads of a job put blocks of columns where they belong. See [`Blocks::put`].
    pub(super) fn by_blocks(&mut self, write: impl FnOnce(&Blocks<'_>)) {
        self.written(|this, numbers, scales| write(&Blocks { to: this, numbers, scales }));
    }
}

/// Activations whose blocks are written by different threads.
pub(super) struct Blocks<'a> {
    /// Their groups.
    pub(super) to: &'a Activations,
    numbers: &'a Disjoint<'a, u32>,
    scales: &'a Disjoint<'a, f32>,
}

impl Blocks<'_> {
    /// Writes columns `32 * block..` of a group; `x` has a row for each of the group's.
    ///
    /// # Safety
    /// No other thread writes this block of this group.
    #[expect(unsafe_code, reason = "blocks are written by different threads")]
    pub(super) unsafe fn put(&self, isa: Isa, group: Group, block: usize, x: &[[f32; BLOCK]]) {
        let (rows, form) = (group.len, self.to.form);
        let each = BLOCK * size(form) / 4;
        let first = group.first * self.to.cols * size(form) / 4 + block * rows * each;
        let scaled = match form {
            Form::Floats => 0..0,
            Form::Bytes | Form::Words => {
                let first = SCALES * (group.first * self.to.blocks() + block * rows);
                first..first + SCALES * rows
            }
        };
        // SAFETY: the places of one block of one group, which is the caller's.
        let (numbers, scales) =
            unsafe { (self.numbers.part(first, rows * each), self.scales.part(scaled.start, scaled.len())) };
        for (t, x) in x[..rows].iter().enumerate() {
            match form {
                Form::Floats => x.iter().enumerate().for_each(|(k, x)| numbers[k * rows + t] = x.to_bits()),
                Form::Bytes => with_simd!(isa, s => put::<_, false>(s, x, t, rows, numbers, scales)),
                Form::Words => with_simd!(isa, s => put::<_, true>(s, x, t, rows, numbers, scales)),
            }
        }
    }
}

/// Bytes of a number.
fn size(form: Form) -> usize {
    match form {
        Form::Bytes => 1,
        Form::Words => 2,
        Form::Floats => 4,
    }
}

fn interleave(x: &[f32], cols: usize, to: &mut [u32]) {
    let rows = x.len() / cols;
    for (t, row) in x.chunks_exact(cols).enumerate() {
        for (k, &v) in row.iter().enumerate() {
            to[k * rows + t] = v.to_bits();
        }
    }
}

#[inline(always)]
fn quantise<S: Simd, const WORDS: bool>(
    s: S,
    x: &[f32],
    cols: usize,
    rows: usize,
    to: &mut [u32],
    scales: &mut [f32],
) {
    let (blocks, each) = (cols / BLOCK, if WORDS { 16 } else { 8 });
    let x = x.as_chunks::<BLOCK>().0;
    for t in 0..rows {
        for b in 0..blocks {
            let to = &mut to[b * rows * each..][..rows * each];
            let scales = &mut scales[b * SCALES * rows..][..SCALES * rows];
            put::<_, WORDS>(s, &x[t * blocks + b], t, rows, to, scales);
        }
    }
}

/// Row `t` of a block of `rows` rows.
#[inline(always)]
fn put<S: Simd, const WORDS: bool>(
    s: S,
    x: &[f32; BLOCK],
    t: usize,
    rows: usize,
    to: &mut [u32],
    scales: &mut [f32],
) {
    let (d, numbers, [first, second]) = quantise_block(s, x);
    let sum = first + second;
    if WORDS {
        let to = &mut to.as_chunks_mut::<16>().0[t];
        for (quad, to) in numbers.as_chunks::<4>().0.iter().zip(to.as_chunks_mut::<2>().0) {
            *to = [pair(quad[0], quad[2]), pair(quad[1], quad[3])];
        }
    } else {
        let to = &mut to.as_chunks_mut::<8>().0[t];
        for (quad, to) in numbers.as_chunks::<4>().0.iter().zip(to) {
            *to = u32::from_ne_bytes(quad.map(|q| q as u8));
        }
    }
    scales[t] = d;
    scales[rows + t] = d * sum as f32;
    let starts = [-ZERO_UNIT * sum, -HALVES_ZERO_UNIT * first, -HALVES_ZERO_UNIT * second];
    for (i, start) in starts.into_iter().enumerate() {
        scales[(2 + i) * rows + t] = f32::from_bits(start as u32);
    }
}

fn pair(low: i8, high: i8) -> u32 {
    u32::from(i16::from(low) as u16) | u32::from(i16::from(high) as u16) << 16
}

/// Scale, numbers, sums of both halves.
#[inline(always)]
fn quantise_block<S: Simd>(s: S, block: &[f32; BLOCK]) -> (f32, [i8; BLOCK], [i32; 2]) {
    let most = f32::from_bits(s.magnitude(block));
    if most < TINY {
        return (0.0, [0; BLOCK], [0; 2]);
    }
    if !most.is_finite() {
        return (f32::NAN, [0; BLOCK], [0; 2]);
    }
    let numbers = s.round_block(block, 127.0 / most);
    (most / 127.0, numbers, s.sum_halves(&numbers))
}
