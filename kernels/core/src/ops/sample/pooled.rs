//! A step's samples on the threads of a pool: the same answers as [`super::sample_rows`].
#![expect(unsafe_code, reason = "samples and seats are written by different threads")]

use super::{sample_row, takes_largest};
use crate::backend::Sampled;
use crate::ops::linear::cpu::largest::Largest;
use crate::picks::{Choice, Want, score_target, take_picks};
use crate::pool::{Disjoint, Pool};
use crate::seats::Seats;
use crate::step::{PICK, Step};

/// Of each thread: a row of logits that a seat has changed, kept between calls.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    changed_rows: Vec<Vec<f32>>,
}

/// Logits of a step's samples.
pub(crate) struct Logits<'a> {
    /// `[samples, width]`; those that `largest` knows of have not been written.
    pub(crate) rows: &'a [f32],
    pub(crate) width: usize,
    pub(crate) largest: &'a Largest,
}

/// Of each sample, whether its largest logit is all that is asked for.
pub(crate) fn only_largest(step: &Step, seats: &Seats) -> impl Iterator<Item = bool> {
    step.targets[..step.samples.len()].iter().enumerate().map(|(i, &target)| {
        let seat = seats.get(step.row_of_sample(i).seat);
        target == PICK && seat.is_none_or(|seat| seat.frozen || takes_largest(seat))
    })
}

/// Answers each row of the logits behind what `sampled` holds, and advances the seats. Targets are scored side by side, then rows
/// pick side by side: a row's picks follow each other.
pub(crate) fn sample_rows(
    pool: &mut Pool,
    scratch: &mut Scratch,
    logits: &Logits<'_>,
    step: &Step,
    seats: &mut Seats,
    sampled: &mut Vec<Sampled>,
) {
    scratch.changed_rows.resize_with(pool.threads(), Vec::new);
    let scratch = Disjoint::new(&mut scratch.changed_rows);
    let &Logits { rows, width, largest } = logits;
    let look = |i: usize, want: Want<'_>, thread: usize| {
        if let Some(token) = largest.column(i) {
            return Choice::only(token as i32);
        }
        // SAFETY: each thread has its own element.
        let scratch = unsafe { &mut scratch.part(thread, 1)[0] };
        sample_row(&rows[i * width..][..width], want, scratch)
    };
    let before = sampled.len();
    sampled.resize(before + step.samples.len(), Sampled::NONE);
    let out = Disjoint::new(&mut sampled[before..]);
    if step.targets.iter().any(|&target| target != PICK) {
        let seats = &*seats;
        pool.run(step.samples.len(), &|i, thread| {
            if step.targets[i] != PICK {
                // SAFETY: each task has its own element.
                let out = unsafe { &mut out.part(i, 1)[0] };
                *out = score_target(step, i, seats, |i, want| look(i, want, thread));
            }
        });
    }
    let seats = Disjoint::new(seats.all_mut());
    pool.run(step.picks.len(), &|task, thread| {
        let picks = &step.picks[task];
        // SAFETY: rows have different seats (`step.rs` checks it) and different samples.
        let (seat, out) =
            unsafe { (&mut seats.part(step.rows[picks.row].seat, 1)[0], out.part(picks.first, picks.len)) };
        take_picks(step, picks, seat.as_mut(), out, |i, want| look(i, want, thread));
    });
}
