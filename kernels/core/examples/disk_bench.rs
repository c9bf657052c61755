//! Ways of moving KV pages between memory and a disk: threads that read and write, with the system's page cache, past it, and past it
//! through a buffer, and `io_uring` with as many requests in flight. A request is the pages of about 2 MiB, as the disk store makes them,
//! checksums included. Reads are of files that were dropped from the page cache; writes end with a sync.
//!
//! `cargo run --release --example disk_bench -- FOLDER [pages=512] [page_bytes=380224] [rounds=5]`
//!
//! Ways take turns; medians are printed. Processor time is that of the whole process, the kernel's workers for it included.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people at a terminal")]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};
use rustix::fs::{Advice, fadvise};
use twox_hash::XxHash3_64;

const BLOCK: usize = 4096;
/// The system's large page, on which the host pool lies.
const HUGE_PAGE: usize = 2 << 20;
/// Bytes of a request, about.
const REQUEST: usize = 2 << 20;
/// Bytes of the buffer between memory that direct I/O cannot have and the disk.
const BUFFER: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Cached,
    Direct,
    Buffered,
    RingCached,
    RingDirect,
}

/// A way, how many requests are in flight, and whether they write.
type Side = (Way, usize, bool);

/// How long each round took, and its processor time.
type Times = (Vec<Duration>, Vec<Duration>);

const WAYS: [Way; 5] = [Way::Cached, Way::Direct, Way::Buffered, Way::RingCached, Way::RingDirect];
const IN_FLIGHT: [usize; 3] = [1, 2, 4];

struct Files {
    cached: File,
    direct: File,
    /// Bytes of a request: whole slots.
    request: usize,
    slot: usize,
}

impl Files {
    fn make(folder: &Path, bytes: usize, slot: usize) -> Self {
        let path = folder.join(format!("kvengine-disk-bench-{}", std::process::id()));
        let cached = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        let direct =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
        // Gone when the program ends.
        std::fs::remove_file(&path).unwrap();
        cached.set_len(bytes as u64).unwrap();
        Self { cached, direct, request: (REQUEST / slot).max(1) * slot, slot }
    }

    fn file(&self, way: Way) -> &File {
        if matches!(way, Way::Cached | Way::RingCached) { &self.cached } else { &self.direct }
    }

    fn sum(&self, part: &[u8]) {
        for page in part.chunks(self.slot) {
            std::hint::black_box(XxHash3_64::oneshot(page));
        }
    }

    /// One request after the other on each of so many threads.
    fn by_threads(&self, (way, threads, writes): Side, memory: &mut [u8]) {
        let parts = Mutex::new(memory.chunks_mut(self.request).enumerate());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut buffer = vec![0; BUFFER + BLOCK];
                    let start = buffer.as_ptr().align_offset(BLOCK);
                    let buffer = &mut buffer[start..start + BUFFER];
                    loop {
                        let next = parts.lock().unwrap().next();
                        let Some((i, part)) = next else { return };
                        self.move_part(way, writes, (i * self.request) as u64, part, buffer).unwrap();
                    }
                });
            }
        });
    }

    fn move_part(
        &self,
        way: Way,
        writes: bool,
        offset: u64,
        part: &mut [u8],
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let file = self.file(way);
        if writes {
            self.sum(part);
        }
        if way == Way::Buffered {
            for (i, piece) in part.chunks_mut(BUFFER).enumerate() {
                let (at, buffer) = (offset + (i * BUFFER) as u64, &mut buffer[..piece.len()]);
                if writes {
                    buffer.copy_from_slice(piece);
                    file.write_all_at(buffer, at)?;
                } else {
                    file.read_exact_at(buffer, at)?;
                    piece.copy_from_slice(buffer);
                }
            }
        } else if writes {
            file.write_all_at(part, offset)?;
        } else {
            file.read_exact_at(part, offset)?;
        }
        if !writes {
            self.sum(part);
        }
        Ok(())
    }

    /// So many requests in flight, made and ended by one thread.
    fn by_ring(&self, (way, in_flight, writes): Side, memory: &mut [u8], ring: &mut IoUring) {
        let file = types::Fd(self.file(way).as_raw_fd());
        let mut parts: Vec<&mut [u8]> = memory.chunks_mut(self.request).collect();
        let (mut next, mut flying) = (0, 0);
        while next < parts.len() || flying > 0 {
            while flying < in_flight && next < parts.len() {
                let part = &mut *parts[next];
                let (len, offset) = (part.len() as u32, (next * self.request) as u64);
                let entry = if writes {
                    self.sum(part);
                    opcode::Write::new(file, part.as_ptr(), len).offset(offset).build()
                } else {
                    opcode::Read::new(file, part.as_mut_ptr(), len).offset(offset).build()
                };
                // SAFETY: the memory is not touched until the request has ended, which this function waits for.
                unsafe { ring.submission().push(&entry.user_data(next as u64)) }.unwrap();
                (next, flying) = (next + 1, flying + 1);
            }
            ring.submit_and_wait(1).unwrap();
            let ended: Vec<(u64, i32)> =
                ring.completion().map(|one| (one.user_data(), one.result())).collect();
            for (i, result) in ended {
                let part = &*parts[i as usize];
                assert_eq!(result, part.len() as i32, "a request moves all of its bytes");
                if !writes {
                    self.sum(part);
                }
                flying -= 1;
            }
        }
    }

    /// How long it takes and what it costs.
    fn time(&self, side: Side, memory: &mut [u8], ring: Option<&mut IoUring>) -> (Duration, Duration) {
        let (way, _, writes) = side;
        self.cached.sync_all().unwrap();
        fadvise(&self.cached, 0, None, Advice::DontNeed).unwrap();
        let (start, before) = (Instant::now(), processor_time());
        match (way, ring) {
            (Way::RingCached | Way::RingDirect, Some(ring)) => self.by_ring(side, memory, ring),
            _ => self.by_threads(side, memory),
        }
        if writes {
            self.cached.sync_data().unwrap();
        }
        (start.elapsed(), processor_time().saturating_sub(before))
    }
}

/// Of the process so far.
fn processor_time() -> Duration {
    // SAFETY: a plain structure, of which zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: fills the structure.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) }, 0);
    let of =
        |time: libc::timeval| Duration::from_micros(time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64);
    of(usage.ru_utime) + of(usage.ru_stime)
}

fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2].as_secs_f64()
}

fn main() {
    let mut words = std::env::args().skip(1);
    let folder = words.next().expect("usage: disk_bench FOLDER [pages=512] [page_bytes=380224] [rounds=5]");
    let settings: BTreeMap<String, usize> = words
        .map(|word| {
            word.split_once('=').map(|(name, value)| (name.to_owned(), value.parse().unwrap())).unwrap()
        })
        .collect();
    let setting = |name: &str, default: usize| settings.get(name).copied().unwrap_or(default);
    let (pages, page_bytes, rounds) =
        (setting("pages", 512), setting("page_bytes", 380_224), setting("rounds", 5));
    let slot = page_bytes.next_multiple_of(BLOCK);
    let bytes = pages * slot;
    let mut memory = vec![0; bytes + HUGE_PAGE];
    let start = memory.as_ptr().align_offset(HUGE_PAGE);
    let memory = &mut memory[start..start + bytes];
    // SAFETY: advice on memory that is ours; refused, pages are small.
    unsafe { libc::madvise(memory.as_mut_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
    for (i, byte) in memory.iter_mut().enumerate() {
        *byte = (i % 251) as u8;
    }
    let files = Files::make(Path::new(&folder), bytes, slot);
    let mut ring = IoUring::new(8).inspect_err(|error| println!("io_uring is not to be had: {error}")).ok();
    let has_ring = ring.is_some();
    let sides: Vec<Side> = WAYS
        .into_iter()
        .filter(|way| has_ring || !matches!(way, Way::RingCached | Way::RingDirect))
        .flat_map(|way| IN_FLIGHT.map(|in_flight| [(way, in_flight, true), (way, in_flight, false)]))
        .flatten()
        .collect();
    let mut found: BTreeMap<(bool, Way, usize), Times> = BTreeMap::new();
    // The first round makes the file's blocks and counts for nothing.
    for round in 0..=rounds {
        let turned = if round % 2 == 0 { sides.clone() } else { sides.iter().rev().copied().collect() };
        for side in turned {
            let (took, cost) = files.time(side, memory, ring.as_mut());
            if round > 0 {
                let (way, in_flight, writes) = side;
                let times = found.entry((writes, way, in_flight)).or_default();
                times.0.push(took);
                times.1.push(cost);
            }
        }
    }
    println!(
        "{pages} pages of {page_bytes} bytes, {} to a request, medians of {rounds}",
        files.request / slot
    );
    for ((writes, way, in_flight), (took, cost)) in found {
        let what = if writes { "write, synced" } else { "read, cold" };
        let rate = (pages * page_bytes) as f64 / 1e6 / median(&took);
        let micros = median(&cost) * 1e6 / pages as f64;
        println!("{what:<14} {way:<11?} {in_flight} in flight {rate:6.0} MB/s {micros:5.0} us CPU a page");
    }
}
