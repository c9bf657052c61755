//! Which flight's pages are copied next. Knows no threads, no memory and no clock: the time is passed in, and what was copied is
//! reported. A flight is handed out in pieces, so that an urgent one waits for a piece and not for a flight. Threads of each kind ask for
//! themselves; a store that is hurried is done by those that load, too.

mod piece;

pub(super) use piece::Piece;

use super::claims::{Claims, StepBlocks};
use super::copier::Failed;
use super::flight::{FlightError, FlightResult, Kind, Plan};
use super::pace::{Pace, Start};
use super::stats::{Meter, TransferStats};
use piece::{DEVICE_PIECE_BYTES, PIECE_BYTES};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a thread is to do.
#[derive(Debug)]
pub(super) enum Next {
    Copy(Piece),
    /// Nothing before that time.
    At(Instant),
    /// Nothing until something changes.
    Nothing,
}

/// What holds a flight back beside its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// Until [`Queue::run`].
    Shut,
}

#[derive(Debug)]
struct Flight {
    plan: Arc<Plan>,
    /// Place in the order of calls.
    number: u64,
    after: i64,
    submitted: Instant,
    /// Since when its step has ended.
    due: Option<Instant>,
    gate: Gate,
    /// Somebody waits for what it holds.
    is_hurried: bool,
    injected: Arc<[u32]>,
    started: Option<Instant>,
    /// Entries handed out.
    given: usize,
    /// Entries handed out and not reported.
    under_way: usize,
    arrived: Vec<bool>,
    error: Option<FlightError>,
}

/// Whether somebody knows of what has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    No,
    /// When the step under way ends.
    Soon,
    Yes,
}

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing comes in, nothing begins; what has begun goes on.
    Draining,
    /// Nothing is left.
    Closed,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) pace: Pace,
    flights: HashMap<i64, Flight>,
    /// Flights whose step has not ended: step, number, id.
    waiting: BTreeSet<(i64, u64, i64)>,
    /// Of each kind, flights that may go and have entries left to hand out: number, id.
    ready: [BTreeSet<(u64, i64)>; 4],
    /// Stores that somebody waits for, in place of those above.
    hurried: BTreeSet<(u64, i64)>,
    claims: Claims,
    /// What the step under way has claimed.
    step: Option<StepBlocks>,
    meter: Meter,
    ended: Vec<FlightResult>,
    /// Whether somebody was told of what has ended.
    told: Told,
    /// Of what has ended, something is not for later: somebody may wait for it.
    urgent: bool,
    next_number: u64,
    page_bytes: usize,
    piece_bytes: usize,
    manual: bool,
    phase: Phase,
}

impl Queue {
    pub(super) fn new(page_bytes: usize, claims: Claims, pace: Pace, manual: bool) -> Self {
        Self {
            pace,
            flights: HashMap::new(),
            waiting: BTreeSet::new(),
            ready: std::array::from_fn(|_| BTreeSet::new()),
            hurried: BTreeSet::new(),
            claims,
            step: None,
            meter: Meter::default(),
            ended: Vec::new(),
            told: Told::No,
            urgent: false,
            next_number: 0,
            page_bytes,
            piece_bytes: PIECE_BYTES,
            manual,
            phase: Phase::Open,
        }
    }

    /// Copies are a device's own.
    pub(super) fn of_device(self) -> Self {
        Self { piece_bytes: DEVICE_PIECE_BYTES, ..self }
    }

    /// Takes in a flight whose indices are in range, to go when the steps up to `after` have ended; those up to `finished` have.
    /// False when its id is in use.
    pub(super) fn submit(&mut self, plan: Plan, after: i64, finished: i64, now: Instant) -> bool {
        if self.flights.contains_key(&plan.id) {
            return false;
        }
        let (id, number) = (plan.id, self.next_number);
        self.next_number += 1;
        let flight = Flight {
            arrived: vec![false; plan.pages.len()],
            plan: Arc::new(plan),
            number,
            after,
            submitted: now,
            due: None,
            gate: if self.manual { Gate::Shut } else { Gate::Open },
            is_hurried: false,
            injected: Arc::default(),
            started: None,
            given: 0,
            under_way: 0,
            error: None,
        };
        self.flights.insert(id, flight);
        self.waiting.insert((after, number, id));
        self.step_finished(finished, now);
        true
    }

    /// All steps up to this one have ended.
    pub(super) fn step_finished(&mut self, step: i64, now: Instant) {
        while let Some(&(after, number, id)) = self.waiting.first() {
            if after > step {
                return;
            }
            self.waiting.pop_first();
            if let Some(flight) = self.flights.get_mut(&id) {
                flight.due = Some(now);
                if flight.gate == Gate::Open {
                    self.list_of(id).insert((number, id));
                }
            }
        }
    }

    /// Where a flight that may go is listed.
    fn list_of(&mut self, id: i64) -> &mut BTreeSet<(u64, i64)> {
        match &self.flights[&id] {
            Flight { is_hurried: true, .. } => &mut self.hurried,
            flight => &mut self.ready[flight.plan.kind as usize],
        }
    }

    /// Somebody waits for what a store holds: it goes before others, whatever their share, by threads that load, too. Of other kinds
    /// and of what has ended nothing changes.
    pub(super) fn hurry(&mut self, id: i64) {
        let Some(flight) = self.flights.get_mut(&id).filter(|flight| flight.plan.kind == Kind::Store) else {
            return;
        };
        flight.is_hurried = true;
        let place = (flight.number, id);
        if self.ready[Kind::Store as usize].remove(&place) {
            self.hurried.insert(place);
        }
    }

    /// The earliest step that a flight waits for.
    pub(super) fn awaited(&self) -> Option<i64> {
        self.waiting.first().map(|first| first.0)
    }

    /// True when nothing of it has started: it has ended as cancelled.
    pub(super) fn cancel(&mut self, id: i64, now: Instant) -> bool {
        let may = self.flights.get(&id).is_some_and(|flight| flight.started.is_none());
        if may {
            self.end(id, true, now);
        }
        may
    }

    /// A manual flight counts as started. False when its step has not ended, or it has.
    pub(super) fn begin(&mut self, id: i64, now: Instant) -> bool {
        let Some(flight) = self.flights.get(&id) else { return false };
        flight.due.is_some() && (flight.started.is_some() || self.start(id, now))
    }

    /// Opens a manual flight's gate; the entries in `injected` fail. False when it is open already or the flight has ended.
    pub(super) fn run(&mut self, id: i64, injected: &[u32]) -> bool {
        let Some(flight) = self.flights.get_mut(&id).filter(|flight| flight.gate == Gate::Shut) else {
            return false;
        };
        flight.gate = Gate::Open;
        flight.injected = injected.into();
        let place = (flight.number, id);
        if flight.due.is_some() {
            self.list_of(id).insert(place);
        }
        true
    }

    /// Entries of a flight that has not ended.
    pub(super) fn len_of(&self, id: i64) -> Option<usize> {
        self.flights.get(&id).map(|flight| flight.plan.pages.len())
    }

    /// What a thread of this kind is to do now.
    pub(super) fn next(&mut self, kind: Kind, now: Instant) -> Next {
        if kind != Kind::Store
            && let Some(piece) = self.first_of(|queue| &queue.ready[kind as usize], now)
        {
            return Next::Copy(piece);
        }
        if kind.is_copy()
            && let Some(piece) = self.first_of(|queue| &queue.hurried, now)
        {
            return Next::Copy(piece);
        }
        if kind != Kind::Store || self.ready[kind as usize].is_empty() {
            return Next::Nothing;
        }
        match self.pace.store(now) {
            Start::Now => {
                self.first_of(|queue| &queue.ready[kind as usize], now).map_or(Next::Nothing, Next::Copy)
            }
            Start::At(time) => Next::At(time),
            Start::Never => Next::Nothing,
        }
    }

    /// A piece of the first flight of a list that can start; those that cannot have ended.
    fn first_of(&mut self, list: impl Fn(&Self) -> &BTreeSet<(u64, i64)>, now: Instant) -> Option<Piece> {
        while let Some(&(_, id)) = list(self).first() {
            if let Some(piece) = self.piece_of(id, now) {
                return Some(piece);
            }
        }
        None
    }

    /// The next entries of a flight that may go; `None` when it could not start and has ended.
    fn piece_of(&mut self, id: i64, now: Instant) -> Option<Piece> {
        if self.flights.get(&id)?.started.is_none() && !self.start(id, now) {
            return None;
        }
        let flight = self.flights.get_mut(&id)?;
        let most = piece::most_entries(&flight.plan, self.page_bytes, self.piece_bytes);
        let entries = flight.given..flight.plan.pages.len().min(flight.given + most);
        flight.given = entries.end;
        flight.under_way += entries.len();
        let piece = Piece {
            plan: Arc::clone(&flight.plan),
            entries,
            injected: Arc::clone(&flight.injected),
            start: now,
        };
        if flight.given == flight.plan.pages.len() {
            let place = (flight.number, id);
            self.list_of(id).remove(&place);
        }
        Some(piece)
    }

    /// Claims what the flight needs; where something is in use it ends as failed, which is false.
    fn start(&mut self, id: i64, now: Instant) -> bool {
        let Some(flight) = self.flights.get_mut(&id) else { return false };
        match self.claims.take(&flight.plan) {
            Ok(()) => {
                flight.started = Some(now);
                let waited = now.saturating_duration_since(flight.due.unwrap_or(now));
                self.meter.started(flight.plan.kind, waited);
                true
            }
            Err(error) => {
                flight.error = Some(FlightError { message: format!("flight {id}: {error}"), ..error });
                self.end(id, false, now);
                false
            }
        }
    }

    /// Takes in what came of a piece. One whose flight was given up is dropped.
    pub(super) fn done(&mut self, piece: &Piece, failed: Failed, now: Instant) {
        let Some(flight) = self.flights.get_mut(&piece.plan.id) else { return };
        if !Arc::ptr_eq(&flight.plan, &piece.plan) {
            return;
        }
        let kind = piece.plan.kind;
        let took = now.saturating_duration_since(piece.start);
        let arrived = (piece.entries.len() - failed.len()) * self.page_bytes;
        if arrived > 0 {
            self.meter.copied(kind, arrived as u64, took);
        }
        if kind == Kind::Store {
            self.pace.stored(piece.start, took);
        }
        flight.under_way -= piece.entries.len();
        flight.arrived[piece.entries.clone()].fill(true);
        for (entry, error) in failed {
            flight.arrived[entry as usize] = false;
            if error.code == "checksum" {
                self.meter.wrong_checksum();
            }
            flight.error.get_or_insert(error);
        }
        if flight.under_way == 0 && flight.given == flight.plan.pages.len() {
            self.end(piece.plan.id, false, now);
        }
    }

    /// Ends a flight as it stands.
    fn end(&mut self, id: i64, cancelled: bool, now: Instant) {
        let Some(flight) = self.flights.remove(&id) else { return };
        let Flight { plan, number, after, submitted, started, arrived, error, .. } = flight;
        self.waiting.remove(&(after, number, id));
        self.ready[plan.kind as usize].remove(&(number, id));
        self.hurried.remove(&(number, id));
        if started.is_some() {
            self.claims.release(&plan);
        }
        let failed = if cancelled {
            Vec::new()
        } else {
            (0..arrived.len() as u32).filter(|&i| !arrived[i as usize]).collect()
        };
        let result = FlightResult {
            id,
            cancelled,
            failed,
            bytes: (arrived.iter().filter(|&&arrived| arrived).count() * self.page_bytes) as u64,
            queued: started.unwrap_or(now).saturating_duration_since(submitted),
            copying: started.map_or(Duration::ZERO, |started| now.saturating_duration_since(started)),
            error,
        };
        self.meter.ended(plan.kind, &result);
        self.urgent |= !plan.kind.is_for_later();
        self.ended.push(result);
    }

    /// Whether there are results that nobody was told of, or will be.
    pub(super) fn has_news(&self) -> bool {
        !self.ended.is_empty() && (self.told == Told::No || self.told == Told::Soon && self.urgent)
    }

    /// Whether nobody waits for the news while steps go on.
    pub(super) fn news_can_wait(&self) -> bool {
        !self.urgent
    }

    /// Somebody will be told later.
    pub(super) fn defer(&mut self) {
        self.told = Told::Soon;
    }

    /// Whether there are results that nobody was told of; somebody is told now.
    pub(super) fn announce(&mut self) -> bool {
        let news = self.told != Told::Yes && !self.ended.is_empty();
        if news {
            self.told = Told::Yes;
        }
        news
    }

    /// What has ended since the last call, in order.
    pub(super) fn take_ended(&mut self) -> Vec<FlightResult> {
        self.told = Told::No;
        self.urgent = false;
        std::mem::take(&mut self.ended)
    }

    /// Cancels what has not started. What has goes on, but for manual flights that nobody will run.
    pub(super) fn drain(&mut self, now: Instant) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
        }
        for id in self.in_order() {
            if !self.cancel(id, now) && self.flights[&id].gate == Gate::Shut {
                self.give_up(id, now);
            }
        }
    }

    /// Ends all that is left: pages that have not arrived have failed.
    pub(super) fn close(&mut self, now: Instant) {
        self.drain(now);
        self.phase = Phase::Closed;
        self.in_order().into_iter().for_each(|id| self.give_up(id, now));
    }

    fn give_up(&mut self, id: i64, now: Instant) {
        if let Some(flight) = self.flights.get_mut(&id) {
            let message = format!("flight {id} was under way when the transfers were stopped");
            flight.error.get_or_insert(FlightError::new("deadline", message));
            self.end(id, false, now);
        }
    }

    /// Flights in the order of calls.
    fn in_order(&self) -> Vec<i64> {
        let mut flights: Vec<(u64, i64)> = self.flights.iter().map(|(&id, f)| (f.number, id)).collect();
        flights.sort_unstable();
        flights.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether flights are taken in.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether no thread has anything to do any more.
    pub(super) fn is_over(&self) -> bool {
        self.phase != Phase::Open && self.flights.is_empty()
    }

    /// Claims the blocks of the step that begins, for tests of who submits steps.
    ///
    /// # Errors
    /// `conflict`, naming the block that a flight uses.
    pub(super) fn begin_step(&mut self, blocks: StepBlocks) -> Result<(), FlightError> {
        self.claims.take_step(&blocks)?;
        self.step = Some(blocks);
        Ok(())
    }

    /// The step has ended.
    pub(super) fn end_step(&mut self) {
        if let Some(blocks) = self.step.take() {
            self.claims.release_step(&blocks);
        }
    }

    /// Whether any flight has the host page.
    pub(super) fn has_page(&self, page: u32) -> bool {
        self.claims.has_page(page)
    }

    /// For what uses pages and is no flight.
    pub(super) fn claims(&mut self) -> &mut Claims {
        &mut self.claims
    }

    /// Counts and measurements; what was copied by whom is not known here.
    pub(super) fn stats(&self) -> TransferStats {
        let mut stats = self.meter.read();
        stats.pending = self.flights.len() as u64;
        for flight in self.flights.values() {
            let arrived = flight.arrived.iter().filter(|&&arrived| arrived).count();
            stats.kinds[flight.plan.kind as usize].pending_bytes +=
                ((flight.arrived.len() - arrived) * self.page_bytes) as u64;
        }
        stats
    }
}

#[cfg(test)]
mod tests;
