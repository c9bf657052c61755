//! What transfers count and measure.

use super::flight::{FlightResult, Kind};
use std::time::Duration;

/// What a new measurement takes away from the weight of those before.
const KEPT: f64 = 0.9;

/// A moving average of a ratio: both sides fade together, so that small flights count little.
#[derive(Clone, Copy, Debug, Default)]
struct Ratio {
    above: f64,
    below: f64,
}

impl Ratio {
    fn add(&mut self, above: f64, below: f64) {
        self.above = self.above * KEPT + above;
        self.below = self.below * KEPT + below;
    }

    /// 0 before the first measurement.
    fn value(self) -> f64 {
        if self.below > 0.0 { self.above / self.below } else { 0.0 }
    }
}

/// Of one kind of flight.
#[derive(Clone, Copy, Debug, Default)]
pub struct KindStats {
    /// Bytes that arrived.
    pub bytes: u64,
    /// Flights that ended with every page.
    pub flights: u64,
    /// Bytes a second of a thread that copies, a slowed link included; a moving average.
    pub bytes_per_second: f64,
    /// Microseconds from when a flight may start to its first copy; a moving average.
    pub latency_micros: f64,
    /// Bytes of flights that have not ended and are not copied yet.
    pub pending_bytes: u64,
}

/// Counts since the start, and measurements.
#[derive(Clone, Copy, Debug, Default)]
pub struct TransferStats {
    /// One for each of [`Kind::ALL`].
    pub kinds: [KindStats; 4],
    /// Flights that ended with a failed page.
    pub failed: u64,
    /// Flights that were cancelled.
    pub cancelled: u64,
    /// Pages that failed.
    pub failed_pages: u64,
    /// Pages that failed by their checksum.
    pub wrong_checksums: u64,
    /// Flights that have not ended.
    pub pending: u64,
    /// Bytes of pages copied by transfer threads.
    pub copied_by_transfer_threads: u64,
    /// By other threads.
    pub copied_by_other_threads: u64,
}

/// Collects them.
#[derive(Debug, Default)]
pub(super) struct Meter {
    stats: TransferStats,
    rates: [Ratio; 4],
    latencies: [Ratio; 4],
}

impl Meter {
    pub(super) fn started(&mut self, kind: Kind, waited: Duration) {
        self.latencies[kind as usize].add(waited.as_secs_f64() * 1e6, 1.0);
    }

    pub(super) fn copied(&mut self, kind: Kind, bytes: u64, took: Duration) {
        self.stats.kinds[kind as usize].bytes += bytes;
        self.rates[kind as usize].add(bytes as f64, took.as_secs_f64());
    }

    pub(super) fn wrong_checksum(&mut self) {
        self.stats.wrong_checksums += 1;
    }

    pub(super) fn ended(&mut self, kind: Kind, result: &FlightResult) {
        self.stats.failed_pages += result.failed.len() as u64;
        if result.cancelled {
            self.stats.cancelled += 1;
        } else if result.ok() {
            self.stats.kinds[kind as usize].flights += 1;
        } else {
            self.stats.failed += 1;
        }
    }

    pub(super) fn read(&self) -> TransferStats {
        let mut stats = self.stats;
        for kind in Kind::ALL.map(|kind| kind as usize) {
            stats.kinds[kind].bytes_per_second = self.rates[kind].value();
            stats.kinds[kind].latency_micros = self.latencies[kind].value();
        }
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_follows_the_bytes_and_forgets() {
        let mut meter = Meter::default();
        let rate = |meter: &Meter| meter.read().kinds[Kind::Store as usize].bytes_per_second;
        assert_eq!(rate(&meter), 0.0);
        meter.copied(Kind::Store, 1_000_000, Duration::from_millis(1));
        assert!((rate(&meter) / 1e9 - 1.0).abs() < 1e-6);
        // A tiny flight that took long to copy moves it little, a hundred of another rate take over.
        meter.copied(Kind::Store, 10, Duration::from_micros(1));
        assert!((rate(&meter) / 1e9 - 1.0).abs() < 0.01);
        (0..100).for_each(|_| meter.copied(Kind::Store, 1_000_000, Duration::from_millis(2)));
        assert!((rate(&meter) / 5e8 - 1.0).abs() < 0.01);
        assert_eq!(meter.read().kinds[Kind::Load as usize].bytes_per_second, 0.0);
    }
}
