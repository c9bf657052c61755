//! The order of copies: cases by hand, and random schedules against the rules.

use super::*;
use crate::testing::Random;
use crate::transfer::flight::Far;
use std::collections::HashSet;
use std::ops::Range;

const PAGE: usize = 128 << 10;
const NUM_PAGES: usize = 24;
const NUM_BLOCKS: usize = 16;
const MS: Duration = Duration::from_millis(1);

fn queue(manual: bool) -> (Queue, Instant) {
    let now = Instant::now();
    (Queue::new(PAGE, Claims::new(NUM_PAGES, NUM_BLOCKS), Pace::new(1.0, 0.0, now), manual), now)
}

fn plan(id: i64, kind: Kind, pages: &[u32], blocks: &[u32]) -> Plan {
    Plan { id, kind, pages: pages.to_vec(), far: Far::Blocks(blocks.to_vec()) }
}

/// Id and entries of the next piece.
fn next(queue: &mut Queue, now: Instant) -> Option<(i64, Range<usize>)> {
    taken(queue, now).map(|piece| (piece.plan.id, piece.entries))
}

fn taken(queue: &mut Queue, now: Instant) -> Option<Piece> {
    [Kind::Load, Kind::Store].into_iter().find_map(|kind| taken_by(kind, queue, now))
}

/// What a thread of this kind gets.
fn taken_by(kind: Kind, queue: &mut Queue, now: Instant) -> Option<Piece> {
    match queue.next(kind, now) {
        Next::Copy(piece) => Some(piece),
        Next::At(_) | Next::Nothing => None,
    }
}

#[test]
fn loads_go_before_stores_and_between_the_pieces_of_one() {
    let (mut queue, now) = queue(false);
    assert!(queue.submit(plan(1, Kind::Store, &[0, 1, 2, 3, 4], &[1, 2, 3, 4, 5]), -1, -1, now));
    assert_eq!(next(&mut queue, now), Some((1, 0..2)));
    assert!(queue.submit(plan(2, Kind::Load, &[6, 7, 8], &[6, 7, 8]), -1, -1, now));
    assert!(queue.submit(plan(3, Kind::Load, &[9], &[9]), -1, -1, now));
    let order: Vec<_> = std::iter::from_fn(|| next(&mut queue, now)).collect();
    assert_eq!(order, [(2, 0..2), (2, 2..3), (3, 0..1), (1, 2..4), (1, 4..5)]);
}

#[test]
fn a_flight_waits_for_its_step_and_holds_up_nobody() {
    let (mut queue, now) = queue(false);
    assert!(queue.submit(plan(1, Kind::Load, &[0], &[1]), 7, 5, now));
    assert!(queue.submit(plan(2, Kind::Load, &[1], &[2]), 6, 5, now));
    assert!(queue.submit(plan(3, Kind::Store, &[2], &[3]), 5, 5, now));
    assert_eq!(queue.awaited(), Some(6));
    assert_eq!(next(&mut queue, now), Some((3, 0..1)));
    assert_eq!(next(&mut queue, now), None);
    queue.step_finished(6, now);
    assert_eq!((next(&mut queue, now), next(&mut queue, now)), (Some((2, 0..1)), None));
    queue.step_finished(9, now);
    assert_eq!((next(&mut queue, now), queue.awaited()), (Some((1, 0..1)), None));
}

#[test]
fn files_and_copies_do_not_wait_for_each_other() {
    let (mut queue, now) = queue(false);
    assert!(queue.submit(plan(1, Kind::Write, &[0], &[0]), -1, -1, now));
    assert!(queue.submit(plan(2, Kind::Read, &[1], &[0]), -1, -1, now));
    assert_eq!(next(&mut queue, now), None);
    assert_eq!(taken_by(Kind::Read, &mut queue, now).expect("a read").plan.id, 2);
    assert_eq!(taken_by(Kind::Write, &mut queue, now).expect("a write").plan.id, 1);
}

#[test]
fn a_store_that_is_hurried_goes_first_and_past_its_share_by_threads_that_load() {
    let (mut queue, now) = queue(false);
    queue.pace.set_share(0.0, now);
    assert!(queue.submit(plan(1, Kind::Store, &[0], &[1]), -1, -1, now));
    assert!(queue.submit(plan(2, Kind::Store, &[1, 2, 3], &[2, 3, 4]), -1, -1, now));
    assert!(queue.submit(plan(3, Kind::Store, &[4], &[5]), 9, -1, now));
    assert!(queue.submit(plan(4, Kind::Load, &[5], &[6]), -1, -1, now));
    assert_eq!(next(&mut queue, now).map(|(id, _)| id), Some(4));
    assert_eq!(next(&mut queue, now), None);
    for id in [2, 3, 4, 77] {
        queue.hurry(id);
    }
    let ids = |kind: Kind, queue: &mut Queue| taken_by(kind, queue, now).map(|p| (p.plan.id, p.entries));
    assert_eq!(ids(Kind::Load, &mut queue), Some((2, 0..2)));
    assert_eq!(ids(Kind::Store, &mut queue), Some((2, 2..3)));
    assert_eq!(next(&mut queue, now), None);
    // One whose step had not ended is hurried when it has.
    queue.step_finished(9, now);
    assert_eq!(ids(Kind::Load, &mut queue), Some((3, 0..1)));
    assert_eq!(next(&mut queue, now), None);
    queue.pace.set_share(1.0, now);
    assert_eq!(ids(Kind::Load, &mut queue), None);
    assert_eq!(ids(Kind::Store, &mut queue), Some((1, 0..1)));
}

#[test]
fn a_store_that_was_hurried_can_be_cancelled_and_leaves_nothing() {
    let (mut queue, now) = queue(false);
    assert!(queue.submit(plan(1, Kind::Store, &[0], &[1]), -1, -1, now));
    queue.hurry(1);
    assert!(queue.cancel(1, now));
    assert_eq!(next(&mut queue, now), None);
    assert!(queue.submit(plan(1, Kind::Store, &[0], &[1]), -1, -1, now));
    assert!(taken_by(Kind::Load, &mut queue, now).is_none());
}

#[test]
fn a_flight_is_cancelled_whole_or_not_at_all() {
    let (mut queue, now) = queue(false);
    assert!(queue.submit(plan(1, Kind::Store, &[0, 1, 2], &[1, 2, 3]), -1, -1, now));
    assert!(queue.submit(plan(2, Kind::Store, &[3], &[4]), -1, -1, now));
    assert!(queue.submit(plan(3, Kind::Store, &[5], &[5]), 9, -1, now));
    let first = taken(&mut queue, now).expect("a piece");
    assert!(!queue.cancel(1, now) && !queue.cancel(8, now));
    assert!(queue.cancel(2, now + MS) && queue.cancel(3, now + MS));
    assert!(!queue.cancel(2, now));
    assert_eq!(queue.awaited(), None);
    let ended = queue.take_ended();
    assert!(ended.iter().all(|r| r.cancelled && !r.ok() && r.failed.is_empty() && r.queued == MS));
    assert_eq!(ended.iter().map(|result| result.id).collect::<Vec<_>>(), [2, 3]);
    queue.done(&first, vec![], now + 2 * MS);
    let second = taken(&mut queue, now + 2 * MS).expect("the rest");
    assert_eq!(second.entries, 2..3);
    queue.done(&second, vec![], now + 3 * MS);
    let ended = queue.take_ended();
    assert!(ended.len() == 1 && ended[0].ok());
    assert_eq!((ended[0].bytes, ended[0].copying), (3 * PAGE as u64, 3 * MS));
}

#[test]
fn an_id_can_be_used_again_when_its_flight_has_ended() {
    let (mut queue, now) = queue(false);
    assert!(queue.submit(plan(1, Kind::Store, &[0], &[1]), -1, -1, now));
    assert!(!queue.submit(plan(1, Kind::Load, &[1], &[2]), -1, -1, now));
    assert!(queue.cancel(1, now));
    assert!(queue.submit(plan(1, Kind::Load, &[1], &[2]), -1, -1, now));
}

#[test]
fn what_another_flight_uses_is_a_conflict_and_frees_itself() {
    let (mut queue, now) = queue(false);
    assert!(queue.submit(plan(1, Kind::Store, &[0], &[1]), -1, -1, now));
    let store = taken(&mut queue, now).expect("a piece");
    assert!(queue.submit(plan(2, Kind::Load, &[0, 1], &[2, 3]), -1, -1, now));
    assert!(queue.submit(plan(3, Kind::Store, &[2], &[1]), -1, -1, now));
    // The load cannot start and the store goes on.
    assert_eq!(next(&mut queue, now), Some((3, 0..1)));
    let ended = queue.take_ended();
    assert_eq!((ended[0].id, &ended[0].failed), (2, &vec![0, 1]));
    let error = ended[0].error.clone().expect("an error");
    assert_eq!(
        (error.code.as_ref(), error.message.as_str()),
        ("conflict", "flight 2: host page 0 is being written elsewhere")
    );
    queue.done(&store, vec![], now);
    assert!(queue.submit(plan(2, Kind::Load, &[0, 1], &[2, 3]), -1, -1, now));
    assert_eq!(next(&mut queue, now), Some((2, 0..2)));
}

#[test]
fn stores_wait_for_their_share_and_loads_do_not() {
    let (mut queue, now) = queue(false);
    queue.pace.set_share(0.25, now);
    assert!(queue.submit(plan(1, Kind::Store, &[0, 1, 2, 3], &[1, 2, 3, 4]), -1, -1, now));
    let piece = taken(&mut queue, now).expect("a piece");
    queue.done(&piece, vec![], now + 10 * MS);
    let Next::At(time) = queue.next(Kind::Store, now + 10 * MS) else { panic!("a time") };
    assert_eq!(time, now + 40 * MS);
    assert!(queue.submit(plan(2, Kind::Load, &[5], &[5]), -1, -1, now));
    assert_eq!(next(&mut queue, now + 10 * MS), Some((2, 0..1)));
    assert_eq!(next(&mut queue, now + 40 * MS), Some((1, 2..4)));
    queue.pace.set_share(0.0, now);
    assert!(queue.submit(plan(3, Kind::Store, &[6], &[6]), -1, -1, now));
    assert!(matches!(queue.next(Kind::Store, now + 90 * MS), Next::Nothing));
}

#[test]
fn manual_flights_go_when_they_are_run_and_their_step_has_ended() {
    let (mut queue, now) = queue(true);
    assert!(queue.submit(plan(1, Kind::Store, &[0], &[1]), 3, -1, now));
    assert!(queue.submit(plan(2, Kind::Store, &[1, 2, 3], &[2, 3, 4]), -1, -1, now));
    assert!(!queue.begin(1, now) && !queue.begin(9, now));
    assert!(queue.begin(2, now) && queue.begin(2, now) && !queue.cancel(2, now));
    assert!(queue.run(1, &[]) && !queue.run(1, &[]) && !queue.run(9, &[]));
    assert_eq!(next(&mut queue, now), None);
    queue.step_finished(3, now);
    assert_eq!((next(&mut queue, now), next(&mut queue, now)), (Some((1, 0..1)), None));
    assert!(queue.run(2, &[2]));
    assert_eq!(taken(&mut queue, now).expect("a piece").injected.as_ref(), [2]);
}

#[test]
fn the_end_cancels_what_waits_and_fails_what_does_not_end() {
    let (mut queue, now) = queue(false);
    assert!(queue.submit(plan(1, Kind::Store, &[0, 1, 2], &[1, 2, 3]), -1, -1, now));
    let piece = taken(&mut queue, now).expect("a piece");
    assert!(queue.submit(plan(2, Kind::Load, &[4], &[4]), -1, -1, now));
    assert!(queue.submit(plan(3, Kind::Load, &[5], &[5]), 9, -1, now));
    queue.drain(now);
    assert!(!queue.is_open() && !queue.is_over());
    let ended = queue.take_ended();
    assert_eq!(ended.iter().map(|r| (r.id, r.cancelled)).collect::<Vec<_>>(), [(2, true), (3, true)]);
    queue.done(&piece, vec![], now);
    let rest = taken(&mut queue, now).expect("the rest of what had begun");
    queue.close(now);
    assert!(queue.is_over());
    let ended = queue.take_ended();
    assert_eq!((ended[0].id, &ended[0].failed, ended[0].cancelled), (1, &vec![2], false));
    assert_eq!(ended[0].error.as_ref().expect("an error").code, "deadline");
    // The thread comes late.
    queue.done(&rest, vec![], now);
    assert!(queue.take_ended().is_empty() && next(&mut queue, now).is_none());
}

#[test]
fn a_manual_flight_that_was_begun_does_not_hold_up_the_end() {
    let (mut queue, now) = queue(true);
    assert!(queue.submit(plan(1, Kind::Store, &[0], &[1]), -1, -1, now));
    assert!(queue.begin(1, now));
    queue.drain(now);
    assert!(queue.is_over());
    assert_eq!(queue.take_ended()[0].failed, [0]);
}

#[test]
fn one_is_told_of_each_batch() {
    let (mut queue, now) = queue(false);
    let submit = |queue: &mut Queue, id| assert!(queue.submit(plan(id, Kind::Store, &[0], &[1]), 5, -1, now));
    assert!(!queue.announce());
    (1..4).for_each(|id| submit(&mut queue, id));
    assert!(queue.cancel(1, now) && queue.announce());
    assert!(queue.cancel(2, now) && !queue.announce() && !queue.has_news());
    assert_eq!(queue.take_ended().len(), 2);
    assert!(!queue.announce());
    assert!(queue.cancel(3, now) && queue.has_news() && queue.announce());
}

#[test]
fn news_of_stores_and_writes_can_wait_and_those_of_loads_and_reads_cannot() {
    let (mut queue, now) = queue(false);
    let submit = |queue: &mut Queue, id, kind| assert!(queue.submit(plan(id, kind, &[0], &[1]), 5, -1, now));
    for (first, later, urgent) in
        [(Kind::Store, Kind::Write, Kind::Load), (Kind::Write, Kind::Store, Kind::Read)]
    {
        submit(&mut queue, 1, first);
        submit(&mut queue, 2, later);
        submit(&mut queue, 3, urgent);
        assert!(queue.cancel(1, now) && queue.has_news() && queue.news_can_wait());
        queue.defer();
        assert!(queue.cancel(2, now) && !queue.has_news());
        assert!(queue.cancel(3, now) && queue.has_news() && !queue.news_can_wait());
        assert!(queue.announce() && !queue.announce() && !queue.has_news());
        assert_eq!(queue.take_ended().len(), 3);
        assert!(queue.news_can_wait() && !queue.announce());
    }
}

/// What the rules say about a flight.
struct Known {
    kind: Kind,
    pages: Vec<u32>,
    blocks: Vec<u32>,
    after: i64,
    number: usize,
    given: usize,
    failed: Vec<u32>,
    cancelled: bool,
    hurried: bool,
}

impl Known {
    /// Whether two flights must not be under way at a time.
    fn conflicts(&self, other: &Self) -> bool {
        let shares = |a: &[u32], b: &[u32]| a.iter().any(|x| b.contains(x));
        let writes_pages = self.kind == Kind::Store || other.kind == Kind::Store;
        let writes_blocks = self.kind == Kind::Load || other.kind == Kind::Load;
        writes_pages && shares(&self.pages, &other.pages)
            || writes_blocks && shares(&self.blocks, &other.blocks)
    }

    fn writes_twice(&self) -> bool {
        let written = if self.kind == Kind::Store { &self.pages } else { &self.blocks };
        written.iter().collect::<HashSet<_>>().len() < written.len()
    }
}

/// A queue with threads that copy nothing, beside what is known of its flights.
struct Model {
    queue: Queue,
    random: Random,
    now: Instant,
    finished: i64,
    known: HashMap<i64, Known>,
    /// Flights of which a piece was handed out and that have not ended.
    started: HashSet<i64>,
    under_way: Vec<Piece>,
    next_id: i64,
    results: usize,
}

impl Model {
    fn new(seed: u64) -> Self {
        let (queue, now) = queue(false);
        Self {
            queue,
            random: Random(seed),
            now,
            finished: -1,
            known: HashMap::new(),
            started: HashSet::new(),
            under_way: Vec::new(),
            next_id: 0,
            results: 0,
        }
    }

    fn submit(&mut self) {
        let id = self.next_id;
        self.next_id += 1;
        let random = &mut self.random;
        let len = 1 + random.below(6);
        let mut some = |end: usize| (0..len).map(|_| random.below(end) as u32).collect::<Vec<_>>();
        let (pages, blocks) = (some(NUM_PAGES), some(NUM_BLOCKS));
        let kind = [Kind::Load, Kind::Store][self.random.below(2)];
        let after = self.finished + self.random.below(4) as i64 - 1;
        assert!(self.queue.submit(plan(id, kind, &pages, &blocks), after, self.finished, self.now));
        let number = self.known.len();
        let failed = Vec::new();
        let (cancelled, hurried) = (false, false);
        self.known
            .insert(id, Known { kind, pages, blocks, after, number, given: 0, failed, cancelled, hurried });
    }

    fn hurry(&mut self) {
        let id = self.random.below(self.next_id as usize + 1) as i64;
        self.queue.hurry(id);
        if let Some(known) = self.known.get_mut(&id).filter(|known| known.kind == Kind::Store) {
            known.hurried = true;
        }
    }

    fn cancel(&mut self) {
        let id = self.random.below(self.next_id as usize + 1) as i64;
        let may = self.open().contains(&id) && !self.started.contains(&id);
        let cancelled = self.queue.cancel(id, self.now);
        assert_eq!(cancelled, may, "flight {id}");
        if let (true, Some(known)) = (cancelled, self.known.get_mut(&id)) {
            known.cancelled = true;
        }
        self.check_results();
    }

    /// Flights without a result.
    fn open(&self) -> HashSet<i64> {
        self.queue.flights.keys().copied().collect()
    }

    fn take(&mut self) {
        // What could go, most urgent first; those that cannot start fail on the way.
        let open = self.open();
        let mut ready: Vec<i64> = self
            .known
            .iter()
            .filter(|(id, k)| open.contains(id) && k.after <= self.finished && k.given < k.pages.len())
            .map(|(&id, _)| id)
            .collect();
        let urgency = |known: &Known| (known.kind as usize, !known.hurried, known.number);
        ready.sort_by_key(|id| urgency(&self.known[id]));
        let refused = |model: &Self, id: &i64| {
            let known = &model.known[id];
            let conflicts =
                model.started.iter().any(|other| other != id && known.conflicts(&model.known[other]));
            !model.started.contains(id) && (conflicts || known.writes_twice())
        };
        let refusals: Vec<i64> = ready.iter().take_while(|id| refused(self, id)).copied().collect();
        let expected = ready.get(refusals.len()).copied();
        let piece = taken(&mut self.queue, self.now);
        assert_eq!(piece.as_ref().map(|piece| piece.plan.id), expected);
        for id in refusals {
            let known = self.known.get_mut(&id).expect("known");
            known.failed = (0..known.pages.len() as u32).collect();
        }
        if let Some(piece) = piece {
            let known = self.known.get_mut(&piece.plan.id).expect("known");
            assert_eq!(piece.entries, known.given..known.pages.len().min(known.given + 2));
            known.given = piece.entries.end;
            self.started.insert(piece.plan.id);
            self.under_way.push(piece);
        }
        self.check_results();
    }

    fn done(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let piece = self.under_way.swap_remove(self.random.below(self.under_way.len()));
        let error = FlightError::new("checksum", "x");
        let failed: Failed = piece
            .entries
            .clone()
            .filter(|_| self.random.below(8) == 0)
            .map(|entry| (entry as u32, error.clone()))
            .collect();
        let known = self.known.get_mut(&piece.plan.id).expect("known");
        known.failed.extend(failed.iter().map(|(entry, _)| entry));
        known.failed.sort_unstable();
        self.queue.done(&piece, failed, self.now);
        self.check_results();
    }

    fn check_results(&mut self) {
        for result in self.queue.take_ended() {
            self.results += 1;
            self.started.remove(&result.id);
            let known = &self.known[&result.id];
            assert_eq!((result.cancelled, &result.failed), (known.cancelled, &known.failed), "{result:?}");
            assert_eq!(result.error.is_some(), !known.failed.is_empty());
            assert!(self.under_way.iter().all(|piece| piece.plan.id != result.id), "{result:?}");
            let arrived = if known.cancelled { 0 } else { known.pages.len() - known.failed.len() };
            assert_eq!(result.bytes, (arrived * PAGE) as u64);
        }
    }

    fn play(mut self, moves: usize) {
        for _ in 0..moves {
            self.now += MS;
            match self.random.below(9) {
                0 | 1 => self.submit(),
                2 => self.cancel(),
                3 => {
                    self.finished += 1;
                    self.queue.step_finished(self.finished, self.now);
                }
                4 | 5 => self.take(),
                6 => self.hurry(),
                _ => self.done(),
            }
        }
        self.finished += 10;
        self.queue.step_finished(self.finished, self.now);
        while !self.queue.flights.is_empty() {
            self.take();
            self.done();
        }
        self.check_results();
        assert_eq!(self.results, self.known.len(), "one result each");
        assert!((0..NUM_PAGES as u32).all(|page| !self.queue.has_page(page)));
        let stats = self.queue.stats();
        let count =
            |so: &dyn Fn(&Known) -> bool| self.known.values().filter(|known| so(known)).count() as u64;
        assert_eq!(stats.cancelled, count(&|known| known.cancelled));
        assert_eq!(stats.failed, count(&|known| !known.failed.is_empty()));
        assert_eq!(stats.pending, 0);
    }
}

#[test]
fn random_schedules_keep_the_rules() {
    for seed in 0..3000 {
        Model::new(seed).play(120);
    }
}
