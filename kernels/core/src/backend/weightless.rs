//! What backends have in common that compute nothing of the model: no weights, no ops, no activations; a rule answers each
//! step's samples.

use super::{Backend, BufferId, Instruction, Launch, PreparedId, Sampled, Tensor};
use crate::arena::{GroupKind, KvGroup};
use crate::error::{Failure, Result};
use crate::op::Op;
use crate::pages::PagesView;
use crate::picks::{Choice, Top, Want};
use crate::seats::Seats;
use crate::step::{Limits, Step};

/// How the samples of a step are answered.
pub trait Rule: Send {
    /// The backend's name.
    const NAME: &str;

    /// As [`Backend::page_bytes`].
    fn page_bytes(block_size: usize) -> usize;

    /// Does a step.
    fn run(
        &mut self,
        step: &Step,
        kv: &mut PagesView<'_>,
        limits: &Limits,
        seats: &mut Seats,
        sampled: &mut Vec<Sampled>,
    );
}

/// A backend that is only a rule.
#[derive(Debug, Default)]
pub struct Weightless<R> {
    rule: R,
}

/// A token with the tokens after it, all equally probable: the lists are as long as real ones, no more.
pub(super) fn listed(token: i32, logprob: f32, want: Want<'_>, vocab_size: usize) -> Choice {
    if !want.wants_logprob() {
        return Choice::only(token);
    }
    let entry = |i: usize| Top { token: ((token as usize + i) % vocab_size) as i32, logprob };
    let top: Option<Vec<Top>> = want.top().map(|count| (0..count.min(vocab_size)).map(entry).collect());
    Choice { token, logprob, rank: u32::from(top.is_some()), top: top.unwrap_or_default() }
}

fn no_ops() -> Failure {
    Failure::internal("a backend without ops was given one")
}

impl<R: Rule> Backend for Weightless<R> {
    fn name(&self) -> String {
        R::NAME.into()
    }

    fn supports(&self, _op: &Op, _weights: &[Tensor<'_>]) -> Result<()> {
        Ok(())
    }

    fn prepare(&mut self, _op: &Op, _weights: &[Tensor<'static>]) -> Result<PreparedId> {
        Err(no_ops())
    }

    fn prepared_bytes(&self) -> usize {
        0
    }

    fn alloc(&mut self, _bytes: usize) -> Result<BufferId> {
        Ok(BufferId(0))
    }

    fn upload(&mut self, _to: BufferId, _offset: usize, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    fn download(&mut self, _from: BufferId, _offset: usize, bytes: &mut [u8]) -> Result<()> {
        bytes.fill(0);
        Ok(())
    }

    fn kv_dtype(&self) -> &'static str {
        ""
    }

    fn kv_element_bytes(&self) -> usize {
        0
    }

    fn page_bytes(&self, _groups: &[KvGroup], block_size: usize) -> Result<usize> {
        Ok(R::page_bytes(block_size))
    }

    fn computes_ops(&self) -> bool {
        false
    }

    fn supports_groups(&self, _kind: GroupKind) -> bool {
        true
    }

    #[expect(unsafe_code, reason = "other threads may reach other pages of KV")]
    fn whole_step(&mut self, launch: &mut Launch<'_>, limits: &Limits) -> Option<Result<()>> {
        // SAFETY: only blocks of the step's tables are touched; `pages.rs` says who keeps transfers off them.
        let mut kv = unsafe { launch.arena.pages.view() };
        self.rule.run(launch.step, &mut kv, limits, launch.seats, launch.sampled);
        Some(Ok(()))
    }

    fn launch(&mut self, _instruction: &Instruction, _launch: &mut Launch<'_>) -> Result<()> {
        Err(no_ops())
    }

    fn synchronize(&mut self) -> Result<()> {
        Ok(())
    }
}
