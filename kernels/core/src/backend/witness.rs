//! Computes nothing of the model, but sees every KV slot. Each slot holds a chain of the slot before it and its token, and
//! what is picked at a position is a function of all slots that the position sees, read through the block tables: a wrong,
//! stale, overwritten or missing block changes the answer. `tests/support/witness.ts` defines the same answers without
//! blocks, batches and steps.
//!
//! All rows read what they begin with before any row stores, and all rows store before any sample is answered: a step must
//! not need what it computes itself, except inside a row.

use super::Sampled;
use super::weightless::{Rule, Weightless, listed};
use crate::arena::GroupKind;
use crate::pages::PagesView;
use crate::picks::{self, Choice, Want};
use crate::seats::{Seat, Seats};
use crate::step::{Limits, Row, Step};

/// The backend.
pub type WitnessBackend = Weightless<Witness>;

/// 64 bits in halves, so that JavaScript computes the same.
type Chain = [u32; 2];

const START: Chain = [0x243F_6A88, 0x85A3_08D3];

/// One-to-one in the chain for each value.
fn mix([low, high]: Chain, value: u32) -> Chain {
    let low = (low ^ value).wrapping_mul(0x9E37_79B1);
    let low = low ^ low >> 15;
    let high = (high ^ low).wrapping_mul(0x85EB_CA6B);
    let high = high ^ high >> 13;
    let low = low.wrapping_add(high).wrapping_mul(0xC2B2_AE35);
    [low ^ low >> 16, high]
}

fn mix_all(chain: Chain, values: impl IntoIterator<Item = u32>) -> Chain {
    values.into_iter().fold(chain, mix)
}

/// What a token comes after: the slot before it, or the state of so many tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Before {
    chain: Chain,
    count: u32,
}

/// Its rule. A page holds a chain for each slot, then the number of tokens in its state; a slot that was never written
/// holds zeros. A page of a state group has its chain in the first slot.
#[derive(Debug, Default)]
pub struct Witness {
    /// Of each group and token: the state after it, where the group is of that kind.
    states: Vec<Vec<Before>>,
}

impl Rule for Witness {
    const NAME: &str = "witness";

    fn page_bytes(block_size: usize) -> usize {
        (size_of::<Chain>() * block_size + size_of::<u32>()).next_multiple_of(64)
    }

    fn run(
        &mut self,
        step: &Step,
        kv: &mut PagesView<'_>,
        limits: &Limits,
        seats: &mut Seats,
        sampled: &mut Vec<Sampled>,
    ) {
        let mut kv = Slots { pages: kv, block_size: limits.block_size };
        self.store(step, &mut kv, limits);
        picks::take_all(step, seats, sampled, |sample, want| {
            answer(self.seen(step, &kv, limits, sample), want, limits.vocab_size)
        });
    }
}

/// The pages as slots.
struct Slots<'a, 'b> {
    pages: &'a mut PagesView<'b>,
    block_size: usize,
}

impl Slots<'_, '_> {
    fn place(&self, block: i32, slot: usize) -> usize {
        block as usize * Witness::page_bytes(self.block_size) + slot * size_of::<Chain>()
    }

    fn chain_at(&self, place: usize) -> Chain {
        let words = self.pages.read(place, 2);
        [words[0], words[1]]
    }

    fn chain(&self, table: &[i32], position: usize) -> Chain {
        self.chain_at(self.place(table[position / self.block_size], position % self.block_size))
    }

    fn set_chain(&mut self, table: &[i32], position: usize, chain: Chain) {
        let place = self.place(table[position / self.block_size], position % self.block_size);
        self.pages.write(place, 2).copy_from_slice(&chain);
    }

    fn state(&self, table: &[i32], position: usize) -> Before {
        let block = table[position / self.block_size];
        let count = self.pages.read(self.place(block, self.block_size), 1)[0];
        Before { chain: self.chain_at(self.place(block, 0)), count }
    }

    fn set_state(&mut self, table: &[i32], position: usize, Before { chain, count }: Before) {
        let block = table[position / self.block_size];
        let (first, end) = (self.place(block, 0), self.place(block, self.block_size));
        self.pages.write(first, 2).copy_from_slice(&chain);
        self.pages.write(end, 1)[0] = count;
    }
}

impl Witness {
    fn store(&mut self, step: &Step, kv: &mut Slots<'_, '_>, limits: &Limits) {
        let rows = |g: usize| step.rows.iter().enumerate().map(move |(r, row)| (row, step.table(g, r)));
        let groups = || limits.groups.iter().enumerate();
        let before: Vec<Before> = groups()
            .flat_map(|(g, group)| rows(g).map(move |(row, table)| (g, group, row, table)))
            .map(|(g, group, row, table)| match (row.start.checked_sub(1), group.kind) {
                (None, _) => Before { chain: mix(START, g as u32), count: 0 },
                (Some(last), GroupKind::State) => kv.state(table, last),
                (Some(last), _) => Before { chain: kv.chain(table, last), count: 0 },
            })
            .collect();
        self.states.iter_mut().for_each(Vec::clear);
        self.states.resize(limits.groups.len(), Vec::new());
        for (((g, group), (row, table)), mut last) in
            groups().flat_map(|group| rows(group.0).map(move |row| (group, row))).zip(before)
        {
            for (&token, position) in step.tokens[row.first..][..row.len].iter().zip(row.start..) {
                let token = token as u32;
                last = match group.kind {
                    GroupKind::State => Before {
                        chain: mix(mix(last.chain, last.count), token),
                        count: last.count.wrapping_add(1),
                    },
                    // Nothing before the token is in the window.
                    GroupKind::Window if group.window == 1 => {
                        Before { chain: mix_all(START, [g as u32, position as u32, token]), ..last }
                    }
                    _ => Before { chain: mix(last.chain, token), ..last },
                };
                if group.kind == GroupKind::State {
                    kv.set_state(table, position, last);
                    self.states[g].push(last);
                } else {
                    kv.set_chain(table, position, last.chain);
                }
            }
        }
    }

    /// All that a sample's position sees, as one chain.
    fn seen(&self, step: &Step, kv: &Slots<'_, '_>, limits: &Limits, sample: usize) -> Chain {
        let token = step.samples[sample] as usize;
        let r = step.row_of_token[token] as usize;
        let Row { first, len, start, .. } = step.rows[r];
        let position = start + token - first;
        limits.groups.iter().enumerate().fold(START, |seen, (g, group)| {
            let table = step.table(g, r);
            let from = match group.kind {
                GroupKind::Full => 0,
                GroupKind::Window => (position + 1).saturating_sub(group.window as usize),
                GroupKind::State => {
                    // A page holds the state after the row's last token only.
                    let is_last = token + 1 == first + len;
                    let Before { chain, count } =
                        if is_last { kv.state(table, position) } else { self.states[g][token] };
                    return mix_all(seen, chain.into_iter().chain([count]));
                }
            };
            let slots = (from..=position).flat_map(|position| kv.chain(table, position));
            mix_all(seen, mix_all(START, slots))
        })
    }
}

fn answer(seen: Chain, want: Want<'_>, vocab_size: usize) -> Choice {
    let token = match want {
        Want::Pick(seat) => pick(seen, seat, vocab_size),
        Want::Score { token, .. } => token,
    };
    // 24 bits are exact in f32.
    let logprob = -((mix(seen, token as u32)[0] >> 8) as f32) / (1 << 24) as f32;
    listed(token, logprob, want, vocab_size)
}

fn pick(seen: Chain, seat: &Seat, vocab_size: usize) -> i32 {
    let Seat { params, output_index, .. } = seat;
    let drawn = [params.seed_low, params.seed_high, params.choice, *output_index];
    let [low, _] = if params.temperature > 0.0 { mix_all(seen, drawn) } else { seen };
    seat.mask().map_or(low as usize % vocab_size, |mask| mask.choose(low as usize)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::{Arena, KvGroup};
    use crate::backend::{Backend, BufferId, Launch};
    use crate::seats::SeatParams;
    use crate::step::{PICK, VERSION};

    const BLOCK_SIZE: usize = 4;
    const VOCABULARY: usize = 1 << 20;
    const PROMPT: [i32; 11] = [7, 3, 9, 9, 1, 0, 4, 2, 8, 8, 5];

    fn group(kind: GroupKind, window: u32) -> KvGroup {
        KvGroup { layers: 1, num_kv_heads: 1, head_dim: 1, kind, window }
    }

    fn full() -> KvGroup {
        group(GroupKind::Full, 0)
    }

    /// A witness with one seat open, and blocks enough for a few tables.
    struct Lab {
        backend: WitnessBackend,
        limits: Limits,
        arena: Arena,
        seats: Seats,
    }

    /// One row of a step: first position, tokens, and the table of each group.
    type LabRow<'a> = (usize, &'a [i32], &'a [&'a [i32]]);

    /// Row i sits on seat i; the last `picks` tokens of each row pick.
    fn step_of(rows: &[LabRow<'_>], picks: usize, limits: &Limits) -> Step {
        let (mut tokens, mut first, mut samples) = (vec![], vec![0], vec![]);
        for row in rows {
            tokens.extend(row.1);
            let end = tokens.len() as i32;
            first.push(end);
            samples.extend(end - picks as i32..end);
        }
        let (mut starts, mut blocks) = (vec![0], vec![]);
        for g in 0..limits.groups.len() {
            for (start, tokens, tables) in rows {
                blocks.extend(&tables[g][..(start + tokens.len()).div_ceil(BLOCK_SIZE)]);
                starts.push(blocks.len() as i32);
            }
        }
        let counts = [tokens.len(), rows.len(), limits.groups.len(), samples.len(), blocks.len(), 0];
        let header = [&[VERSION, 0][..], &counts.map(|count| count as i32)].concat();
        let seats: Vec<i32> = (0..rows.len() as i32).collect();
        let positions: Vec<i32> = rows.iter().map(|row| row.0 as i32).collect();
        let targets = vec![PICK; samples.len()];
        let words = [&header[..], &tokens, &seats, &first, &positions, &samples, &targets, &starts, &blocks];
        Step::parse(&words.concat(), limits).unwrap()
    }

    impl Lab {
        fn new(groups: &[KvGroup], params: &SeatParams) -> Self {
            let limits = Limits {
                max_tokens: 64,
                max_rows: 4,
                max_samples: 16,
                max_model_len: 64,
                block_size: BLOCK_SIZE,
                groups: groups.to_vec(),
                num_blocks: 40,
                vocab_size: VOCABULARY,
            };
            let mut backend = WitnessBackend::default();
            let page_bytes = backend.page_bytes(groups, BLOCK_SIZE).unwrap();
            let arena = Arena {
                pages: backend.alloc_pages(page_bytes, limits.num_blocks).unwrap(),
                block_size: BLOCK_SIZE,
                element_bytes: 0,
                groups: groups.to_vec(),
            };
            let mut seats = Seats::new(limits.max_rows);
            for seat in 0..limits.max_rows {
                seats.open(seat, Seat::new(params.clone(), &[]));
            }
            Self { backend, limits, arena, seats }
        }

        fn copy(&mut self, pairs: &[[i32; 2]]) {
            self.backend.copy_pages(&self.arena, pairs).unwrap();
        }

        fn run(&mut self, rows: &[LabRow<'_>], picks: usize) -> Vec<i32> {
            let step = step_of(rows, picks, &self.limits);
            let mut sampled = Vec::new();
            let mut launch = Launch {
                step: &step,
                activations: BufferId(0),
                arena: &self.arena,
                seats: &mut self.seats,
                sampled: &mut sampled,
            };
            self.backend.whole_step(&mut launch, &self.limits).unwrap().unwrap();
            sampled.iter().map(|s| s.token).collect()
        }
    }

    fn mixes() -> Vec<Vec<KvGroup>> {
        let window = |w| group(GroupKind::Window, w);
        let state = group(GroupKind::State, 0);
        vec![
            vec![full()],
            vec![full(), full()],
            vec![window(1)],
            vec![window(2), full()],
            vec![window(6), window(4), window(5)],
            vec![state],
            vec![state, window(3), full()],
        ]
    }

    /// Tables of disjoint blocks, in no order.
    fn tables(groups: &[KvGroup], first: i32) -> Vec<Vec<i32>> {
        (0..groups.len() as i32).map(|g| [2, 0, 1].map(|i| first + 3 * g + i).to_vec()).collect()
    }

    fn views(tables: &[Vec<i32>]) -> Vec<&[i32]> {
        tables.iter().map(Vec::as_slice).collect()
    }

    fn whole(groups: &[KvGroup], prompt: &[i32]) -> i32 {
        let tables = tables(groups, 1);
        Lab::new(groups, &SeatParams::default()).run(&[(0, prompt, &views(&tables))], 1)[0]
    }

    #[test]
    fn chunks_of_any_size_see_the_same() {
        for groups in mixes() {
            let expected = whole(&groups, &PROMPT);
            for chunk in 1..PROMPT.len() {
                let mut lab = Lab::new(&groups, &SeatParams::default());
                let tables = tables(&groups, 1);
                let mut answer = vec![];
                for start in (0..PROMPT.len()).step_by(chunk) {
                    let part = &PROMPT[start..(start + chunk).min(PROMPT.len())];
                    answer = lab.run(&[(start, part, &views(&tables))], 1);
                }
                assert_eq!(answer, [expected], "{groups:?} by {chunk}");
            }
        }
    }

    #[test]
    fn rows_of_one_step_may_come_in_any_order_and_share_what_was_computed_before() {
        for groups in mixes() {
            let (first, second) = (tables(&groups, 1), tables(&groups, 13));
            let other: Vec<i32> = PROMPT.iter().map(|token| token + 1).collect();
            let (a, b): (LabRow<'_>, LabRow<'_>) =
                ((0, &PROMPT, &views(&first)), (0, &other, &views(&second)));
            let mut lab = Lab::new(&groups, &SeatParams::default());
            let expected = lab.run(&[a, b], 1);
            assert_eq!(expected, [whole(&groups, &PROMPT), whole(&groups, &other)]);
            let mut lab = Lab::new(&groups, &SeatParams::default());
            let mut turned = lab.run(&[b, a], 1);
            turned.reverse();
            assert_eq!(turned, expected);

            // Two blocks of the first's are a prefix of the third, which writes into a block of its own.
            let mut third = first.clone();
            for (g, table) in third.iter_mut().enumerate() {
                table[2] = 25 + g as i32;
            }
            let tail = [1, 2, 3];
            let prompt = [&PROMPT[..8], &tail[..]].concat();
            let answer = lab.run(&[(8, &tail, &views(&third)), (8, &PROMPT[8..], &views(&first))], 1);
            assert_eq!(answer, [whole(&groups, &prompt), expected[0]]);
        }
    }

    /// Computes all but the last token, lets something happen, and computes that.
    fn disturbed(groups: &[KvGroup], disturb: impl FnOnce(&mut Lab, &mut Vec<Vec<i32>>)) -> i32 {
        let mut lab = Lab::new(groups, &SeatParams::default());
        let mut tables = tables(groups, 1);
        let (last, known) = PROMPT.split_last().unwrap();
        lab.run(&[(0, known, &views(&tables))], 1);
        disturb(&mut lab, &mut tables);
        lab.run(&[(known.len(), &[*last], &views(&tables))], 1)[0]
    }

    #[test]
    fn a_wrong_block_changes_the_answer() {
        for groups in mixes() {
            for g in 0..groups.len() {
                let own = groups[g].kind != GroupKind::Window || groups[g].window > 1;
                let answer = disturbed(&groups, |_, tables| tables[g][2] = 39);
                assert_eq!(answer != whole(&groups, &PROMPT), own, "{groups:?}");
            }
        }
        let answer = disturbed(&[full()], |_, tables| tables[0].swap(0, 1));
        assert_ne!(answer, whole(&[full()], &PROMPT));
        let two = [full(), full()];
        let answer = disturbed(&two, |_, tables| tables.swap(0, 1));
        assert_ne!(answer, whole(&two, &PROMPT));
    }

    #[test]
    fn a_stale_block_changes_the_answer() {
        // The block was another sequence's, with the same tokens at other places.
        for groups in mixes().into_iter().filter(|groups| groups[0].window != 1) {
            let answer = disturbed(&groups, |lab, tables| {
                let old = [&PROMPT[8..10], &[0, 0], &PROMPT[8..10], &[0, 0], &PROMPT[8..10]].concat();
                let others: Vec<Vec<i32>> =
                    (0..groups.len() as i32).map(|g| [30 + 3 * g, 31 + 3 * g, 32 + 3 * g].to_vec()).collect();
                lab.run(&[(0, &old, &views(&others))], 1);
                for (table, other) in tables.iter_mut().zip(others) {
                    table[2] = other[2];
                }
            });
            assert_ne!(answer, whole(&groups, &PROMPT), "{groups:?}");
        }
    }

    #[test]
    fn an_overwritten_slot_changes_the_answer_where_it_is_seen() {
        let windows = |w| vec![group(GroupKind::Window, w)];
        for (groups, position, seen) in [
            (vec![full()], 0, true),
            (vec![full()], 9, true),
            (windows(4), 7, true),
            (windows(4), 6, false),
            (windows(1), 9, false),
            (vec![group(GroupKind::State, 0)], 9, true),
        ] {
            let answer = disturbed(&groups, |lab, tables| {
                // Another row writes one token into the block, at the slot of this position.
                let block = tables[0][position / BLOCK_SIZE];
                let table = [36, 37, block];
                let at = 2 * BLOCK_SIZE + position % BLOCK_SIZE;
                lab.run(&[(at, &[6], &[&table])], 1);
            });
            assert_eq!(answer != whole(&groups, &PROMPT), seen, "{groups:?} at {position}");
        }
    }

    #[test]
    fn a_fork_answers_as_its_source_only_when_the_page_was_copied() {
        for groups in mixes().into_iter().filter(|groups| groups[0].window != 1) {
            let fork = |copies: bool| {
                disturbed(&groups, |lab, tables| {
                    for (g, table) in tables.iter_mut().enumerate() {
                        let to = 30 + g as i32;
                        if copies {
                            lab.copy(&[[table[2], to]]);
                        }
                        table[2] = to;
                    }
                })
            };
            assert_eq!(fork(true), whole(&groups, &PROMPT));
            assert_ne!(fork(false), whole(&groups, &PROMPT));
        }
    }

    #[test]
    fn copies_are_made_in_order() {
        let answer = disturbed(&[full()], |lab, tables| {
            lab.copy(&[[tables[0][2], 30], [30, 31]]);
            tables[0][2] = 31;
        });
        assert_eq!(answer, whole(&[full()], &PROMPT));
    }

    #[test]
    fn a_state_at_the_wrong_position_changes_the_answer() {
        let groups = [group(GroupKind::State, 0)];
        let mut lab = Lab::new(&groups, &SeatParams::default());
        let tables = tables(&groups, 1);
        lab.run(&[(0, &PROMPT[..7], &views(&tables))], 1);
        // Token 7 is left out, and computed twice.
        for start in [8, 6] {
            let answer = lab.run(&[(start, &PROMPT[start..], &views(&tables))], 1);
            assert_ne!(answer, [whole(&groups, &PROMPT)]);
        }
    }

    #[test]
    fn what_a_row_of_the_same_step_computes_is_not_there_yet() {
        let mut lab = Lab::new(&[full()], &SeatParams::default());
        let answer = lab.run(&[(0, &PROMPT[..8], &[&[1, 2]]), (8, &PROMPT[8..], &[&[1, 2, 3]])], 1);
        assert_eq!(answer[0], whole(&[full()], &PROMPT[..8]));
        assert_ne!(answer[1], whole(&[full()], &PROMPT));
    }

    #[test]
    fn right_drafts_pick_what_steps_of_one_token_pick() {
        for groups in mixes() {
            for params in [
                SeatParams::default(),
                SeatParams {
                    temperature: 1.0,
                    seed_low: 5,
                    seed_high: 6,
                    choice: 2,
                    ..SeatParams::default()
                },
            ] {
                let tables = tables(&groups, 1);
                let mut lab = Lab::new(&groups, &params);
                let mut picked = lab.run(&[(0, &PROMPT[..6], &views(&tables))], 1);
                for i in 0..4 {
                    picked.extend(lab.run(&[(6 + i, &[picked[i]], &views(&tables))], 1));
                }
                let mut lab = Lab::new(&groups, &params);
                lab.run(&[(0, &PROMPT[..6], &views(&tables))], 1);
                assert_eq!(lab.run(&[(6, &picked[..4], &views(&tables))], 4), picked[1..]);

                let mut lab = Lab::new(&groups, &params);
                lab.run(&[(0, &PROMPT[..6], &views(&tables))], 1);
                let drafts = [picked[0], picked[1], picked[2] ^ 1, picked[3]];
                let answer = lab.run(&[(6, &drafts, &views(&tables))], 4);
                assert_eq!(answer, [picked[1], picked[2], -1, -1]);
            }
        }
    }

    #[test]
    fn seed_choice_and_index_count_when_the_temperature_is_above_0() {
        let with =
            |params: SeatParams| Lab::new(&[full()], &params).run(&[(0, &PROMPT, &[&[1, 2, 3]])], 1)[0];
        let default = SeatParams::default;
        let random = || SeatParams { temperature: 0.5, ..default() };
        let greedy = with(default());
        assert_eq!(with(SeatParams { seed_low: 1, choice: 3, ..default() }), greedy);
        let first = with(random());
        for params in [
            default(),
            SeatParams { seed_low: 1, ..random() },
            SeatParams { seed_high: 1, ..random() },
            SeatParams { choice: 1, ..random() },
            SeatParams { output_index: 1, ..random() },
        ] {
            assert_ne!(with(params), first);
        }
    }

    #[test]
    fn targets_are_reported_by_what_their_position_sees() {
        let scores = |groups: &[KvGroup], chunk: usize| {
            let mut lab = Lab::new(groups, &SeatParams::default());
            let tables = tables(groups, 1);
            let mut logprobs = Vec::new();
            for start in (0..PROMPT.len()).step_by(chunk) {
                let part = &PROMPT[start..(start + chunk).min(PROMPT.len())];
                let mut step = step_of(&[(start, part, &views(&tables))], part.len(), &lab.limits);
                step.picks.clear();
                step.targets = part.iter().map(|&token| token + 1).collect();
                assert!(step.targets.iter().all(|&target| target != PICK));
                let mut sampled = Vec::new();
                let mut launch = Launch {
                    step: &step,
                    activations: BufferId(0),
                    arena: &lab.arena,
                    seats: &mut lab.seats,
                    sampled: &mut sampled,
                };
                lab.backend.whole_step(&mut launch, &lab.limits).unwrap().unwrap();
                assert!(sampled.iter().all(|s| s.token == -1));
                logprobs.extend(sampled.iter().map(|s| s.logprob));
            }
            logprobs
        };
        for groups in mixes() {
            let expected = scores(&groups, PROMPT.len());
            assert!(expected.iter().all(|&logprob| (-1.0..=0.0).contains(&logprob)));
            for chunk in [1, 3, 4] {
                assert_eq!(scores(&groups, chunk), expected);
            }
        }
    }
}
