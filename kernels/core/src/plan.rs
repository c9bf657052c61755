//! Where each value lies: lifetimes on the tape become offsets in one activation buffer.

use crate::op::{Op, Rows, ValueId, ValueInfo};

/// Offsets start at multiples of this, a cache line and the widest vector.
const ALIGN: usize = 64;

/// Where the values of a tape lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes from the start of the buffer, one a value.
    pub offsets: Vec<usize>,
    /// Bytes of the buffer.
    pub bytes: usize,
}

/// Tape indices between which a value's memory must stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The op that writes it.
    pub first: usize,
    /// The last op that reads it.
    pub last: usize,
}

/// Values that share one place, each taking over from the one before.
struct Shared {
    life: Lifetime,
    bytes: usize,
}

/// Lifetimes of a checked tape (each value written once, before it is read). Inputs of `gatherSamples` live to the end:
/// [`crate::program::Program::logits`] gathers from them more than once.
pub fn lifetimes(num_values: usize, ops: &[Op]) -> Vec<Lifetime> {
    let mut lives = vec![Lifetime { first: 0, last: 0 }; num_values];
    for (i, op) in ops.iter().enumerate() {
        for id in op.outputs() {
            lives[id as usize] = Lifetime { first: i, last: i };
        }
        let last = if matches!(op, Op::GatherSamples { .. }) { ops.len() } else { i };
        for id in op.inputs() {
            let life = &mut lives[id as usize];
            life.last = life.last.max(last);
        }
    }
    lives
}

/// Plans a checked tape for at most `max_tokens` tokens and `max_samples` sampled positions.
pub fn plan(values: &[ValueInfo], ops: &[Op], max_tokens: usize, max_samples: usize) -> Plan {
    let lives = lifetimes(values.len(), ops);
    let bytes = |id: usize| {
        let rows = match values[id].rows {
            Rows::Tokens => max_tokens,
            Rows::Samples => max_samples,
        };
        (rows * values[id].width as usize * size_of::<f32>()).next_multiple_of(ALIGN)
    };

    let mut place_of: Vec<Option<usize>> = vec![None; values.len()];
    let mut places: Vec<Shared> = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        let heir = heir(op, values).and_then(|(input, output)| {
            let dies = lives[input as usize].last == i;
            place_of[input as usize].filter(|_| dies).map(|place| (place, output))
        });
        for id in op.outputs() {
            let id = id as usize;
            place_of[id] = Some(match heir {
                Some((place, output)) if output as usize == id => {
                    places[place].life.last = lives[id].last;
                    place
                }
                _ => {
                    places.push(Shared { life: lives[id], bytes: bytes(id) });
                    places.len() - 1
                }
            });
        }
    }
    let (starts, bytes) = pack(&places);
    let offsets = place_of.iter().map(|place| place.map_or(0, |place| starts[place])).collect();
    Plan { offsets, bytes }
}

/// The dying input whose place an output may take (see [`crate::backend::Instruction`]).
fn heir(op: &Op, values: &[ValueInfo]) -> Option<(ValueId, ValueId)> {
    let (input, output) = match op {
        Op::Rope { x, out, .. } | Op::Add { x, out, .. } => (*x, *out),
        Op::AddRmsNorm { residual, sum, .. } => (*residual, *sum),
        _ => return None,
    };
    (values[input as usize] == values[output as usize]).then_some((input, output))
}

/// Largest first, each at the lowest offset that is free during its life.
fn pack(places: &[Shared]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(places[i].bytes), i));
    let mut starts = vec![0; places.len()];
    let mut total = 0;
    let mut placed: Vec<usize> = Vec::with_capacity(places.len());
    for i in order {
        let place = &places[i];
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&j| {
                let other = &places[j].life;
                place.life.first <= other.last && other.first <= place.life.last
            })
            .map(|&j| (starts[j], starts[j] + places[j].bytes))
            .collect();
        taken.sort_unstable();
        let mut start = 0;
        for (from, to) in taken {
            if start + place.bytes <= from {
                break;
            }
            start = start.max(to);
        }
        starts[i] = start;
        total = total.max(start + place.bytes);
        placed.push(i);
    }
    (starts, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::RopeStyle;
    use proptest::prelude::*;

    /// A tape of random ops over values of two widths; each op reads values written before it.
    fn tape(choices: &[(u8, usize, usize)]) -> (Vec<ValueInfo>, Vec<Op>) {
        let mut values = vec![ValueInfo { rows: Rows::Tokens, width: 8 }];
        let label = String::new;
        let mut ops = vec![Op::Embed { label: label(), weight: String::new(), out: 0 }];
        for &(kind, a, b) in choices {
            let x = (a % values.len()) as u32;
            let same: Vec<u32> =
                (0..values.len() as u32).filter(|&v| values[v as usize] == values[x as usize]).collect();
            let y = same[b % same.len()];
            let out = values.len() as u32;
            let info = values[x as usize].clone();
            let op = match kind % 5 {
                0 => Op::Add { label: label(), x, y, out },
                1 => Op::Rope {
                    label: label(),
                    x,
                    num_heads: 1,
                    head_dim: 2,
                    dims: 2,
                    theta: 1.0,
                    style: RopeStyle::Halves,
                    frequencies: None,
                    out,
                },
                2 => {
                    values.push(info.clone());
                    Op::AddRmsNorm {
                        label: label(),
                        x,
                        residual: y,
                        weight: String::new(),
                        eps: 0.0,
                        sum: out,
                        out: out + 1,
                    }
                }
                3 if info.rows == Rows::Tokens => {
                    values.push(ValueInfo { rows: Rows::Samples, width: info.width });
                    ops.push(Op::GatherSamples { label: label(), x, out });
                    continue;
                }
                _ => {
                    values.push(ValueInfo { rows: info.rows, width: 8 + (b % 3) as u32 * 40 });
                    ops.push(Op::Linear { label: label(), x, weights: vec![], biases: vec![], out });
                    continue;
                }
            };
            values.push(info);
            ops.push(op);
        }
        (values, ops)
    }

    fn bytes_of(value: &ValueInfo) -> usize {
        value.width as usize * 4 * if value.rows == Rows::Tokens { 7 } else { 3 }
    }

    proptest! {
        #[test]
        fn values_alive_at_one_time_never_overlap(
            choices in proptest::collection::vec((any::<u8>(), any::<usize>(), any::<usize>()), 0..40),
        ) {
            let (values, ops) = tape(&choices);
            let plan = plan(&values, &ops, 7, 3);
            let lives = lifetimes(values.len(), &ops);
            for a in 0..values.len() {
                prop_assert_eq!(plan.offsets[a] % ALIGN, 0);
                prop_assert!(plan.offsets[a] + bytes_of(&values[a]) <= plan.bytes);
                for b in 0..a {
                    let apart = plan.offsets[a] + bytes_of(&values[a]) <= plan.offsets[b]
                        || plan.offsets[b] + bytes_of(&values[b]) <= plan.offsets[a];
                    let (x, y) = if lives[a].first < lives[b].first { (a, b) } else { (b, a) };
                    // Only the op that ends one and begins the other may share, and only in the allowed way.
                    let handed = lives[x].last == lives[y].first
                        && heir(&ops[lives[y].first], &values) == Some((x as u32, y as u32));
                    let together = lives[x].last >= lives[y].first;
                    prop_assert!(apart || !together || (handed && plan.offsets[a] == plan.offsets[b]));
                }
            }
        }
    }

    #[test]
    fn a_residual_chain_stays_in_place() {
        let (values, ops) = tape(&[(4, 0, 0), (2, 1, 0), (4, 3, 0), (2, 4, 2)]);
        let plan = plan(&values, &ops, 7, 3);
        assert_eq!(plan.offsets[2], plan.offsets[0]);
    }
}
