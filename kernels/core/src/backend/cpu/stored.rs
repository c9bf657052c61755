//! Keys and values go to their slots. Where an op just before rotates their rows both are done as one, while rows are at hand.

use super::views::Views;
use super::{CpuBackend, Prepared, place};
use crate::backend::{Instruction, Launch};
use crate::error::{Failure, Result};
use crate::op::Op;
use crate::ops::rope::Rope;
use crate::ops::store_kv::KvPlace;
use crate::ops::store_kv::cpu::{Rotation, store};

/// How an op rotates, if it does.
pub(super) fn rope_of<'a>(op: &Op, prepared: &'a Prepared) -> Option<Rope<'a>> {
    let Op::Rope { num_heads, head_dim, dims, theta, style, .. } = op else { return None };
    let factors = if let Prepared::Vector(factors) = prepared { Some(factors.as_slice()) } else { None };
    let (num_heads, head_dim, dims) = (*num_heads as usize, *head_dim as usize, *dims as usize);
    Some(Rope { num_heads, head_dim, dims, theta: *theta, style: *style, factors })
}

/// Where an op stores, if it does.
fn place_of(op: &Op) -> Option<KvPlace> {
    let Op::StoreKv { group, layer, num_heads, num_kv_heads, head_dim, .. } = op else { return None };
    Some(place(*group, *layer, *num_heads, *num_kv_heads, *head_dim))
}

/// The rotation and the storing of what it rotates that these instructions begin with, if they do.
pub(super) fn rotated(instructions: &[Instruction]) -> Option<&[Instruction; 2]> {
    instructions.first_chunk().filter(|[rotation, store]| {
        matches!(rotation.op, Op::Rope { .. })
            && matches!(store.op, Op::StoreKv { .. })
            && store.inputs[0] == rotation.outputs[0]
    })
}

impl CpuBackend {
    /// Stores what `instruction` reads, after `rotation` where there is one.
    #[expect(unsafe_code, reason = "other threads may reach other pages")]
    pub(super) fn store(
        &mut self,
        rotation: Option<&Instruction>,
        instruction: &Instruction,
        launch: &Launch<'_>,
    ) -> Result<()> {
        let step = launch.step;
        let place = place_of(&instruction.op).ok_or_else(|| Failure::internal("this op stores nothing"))?;
        if let Some(ahead) = self.ahead.as_mut().filter(|_| place.layer == 0) {
            ahead.use_blocks(&step.blocks);
        }
        let buffer = self.buffers[launch.activations.0].floats_mut();
        let mut views = Views::new(buffer, step, rotation.unwrap_or(instruction))?;
        let rope = rotation.and_then(|one| rope_of(&one.op, &self.prepared[one.prepared.0]));
        let rotation = rope.map(|rope| Rotation { angles: self.angles.of(&rope, &step.positions), rope });
        let [qkv] = if rotation.is_some() {
            views.copied_in_place()?;
            views.outputs()?
        } else {
            views.inputs()?
        };
        let qkv = &views.shared()[qkv];
        // SAFETY: only blocks that the step fills are written; `pages.rs` says who keeps everybody else off them.
        let mut kv = unsafe { launch.arena.pages.view() };
        let (isa, pool, arena) = (self.isa, &mut self.pool, launch.arena);
        store(isa, pool, self.kv_dtype, qkv, rotation.as_ref(), &place, step, arena, &mut kv);
        Ok(())
    }
}
