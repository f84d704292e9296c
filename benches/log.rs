//! What the log costs beside the disk: append and sync of one entry, next to a bare write and `fdatasync` of as many
//! bytes into a zero-filled file in the same directory, in the same run. The ratio is the figure that travels between
//! machines. Beside it: reading the tail, and opening very many idle logs.
//!
//! `cargo bench -p raftline-benches --bench log`
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftline_proto::entry::{EntryHeader, EntryKind};
use raftline_proto::ids::{EntryId, GroupId, Index, Offset, Position, Term};
use raftline_storage::real::RealFile;
use raftline_storage::{Disk, DiskFile, Log, LogOptions, RealDisk};
use std::hint::black_box;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SIZES: [(&str, usize); 3] = [("4KiB", 4 << 10), ("64KiB", 64 << 10), ("1MiB", 1 << 20)];
const OPTIONS: LogOptions = LogOptions { segment_bytes: 64 << 20, segment_ms: i64::MAX };
/// What is kept of a log while it is measured.
const KEPT_BYTES: u64 = 256 << 20;

/// A directory on the disk that holds the build, which is a real one.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build directory is writable")
}

fn disk(root: &Path) -> RealDisk {
    RealDisk::new(root).expect("the directory was just made")
}

fn open(root: &Path, group: u64) -> Log<RealDisk> {
    open_on(disk(root), root, group, Position::ZERO)
}

fn open_on(disk: RealDisk, root: &Path, group: u64, floor: Position) -> Log<RealDisk> {
    let dir = root.join(format!("groups/{group}"));
    Log::open(disk, &dir, GroupId(group), OPTIONS, floor).expect("the log is sound")
}

fn append(log: &mut Log<RealDisk>, payload: &Bytes) {
    let header = EntryHeader {
        group: log.group(),
        id: EntryId::new(Term(1), log.last().index.next()),
        kind: EntryKind::Data,
        base_offset: log.next_offset(),
        record_count: 1,
        payload_bytes: u32::try_from(payload.len()).expect("at most 1 MiB"),
    };
    log.append(header, [payload.clone(), Bytes::new()]);
    log.write().expect("there is room");
}

fn sync(log: &mut Log<RealDisk>) {
    if let Some(ticket) = log.begin_sync() {
        ticket.run().expect("the disk works");
        log.durable_through(ticket.through());
    }
}

/// What other threads do for a broker: room ahead, and retention.
fn tend(log: &mut Log<RealDisk>) {
    if let Some(allocation) = log.allocation_wanted() {
        let result = allocation.run();
        log.allocated(allocation, result);
    }
    let up_to = log.durable().index;
    if let Some(outlived) = log.outlived(None, Some(KEPT_BYTES), up_to) {
        log.trim(outlived.below, up_to).expect("the disk works");
    }
}

/// Adds up the time of `measured` alone, `between` not counted.
#[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn timed<T>(
    rounds: u64,
    state: &mut T,
    mut measured: impl FnMut(&mut T),
    mut between: impl FnMut(&mut T),
) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        let start = Instant::now();
        measured(state);
        total += start.elapsed();
        between(state);
    }
    total
}

/// A bare file, zero-filled ahead and written round and round.
struct Raw {
    file: Arc<RealFile>,
    at: u64,
}

impl Raw {
    fn new(root: &Path) -> Self {
        let file = disk(root).create(&root.join("raw")).expect("the directory is empty");
        file.allocate(0, OPTIONS.segment_bytes).and_then(|()| file.sync_data()).expect("there is room");
        Self { file, at: 0 }
    }

    fn append_and_sync(&mut self, payload: &Bytes) {
        self.file.write_at(&[IoSlice::new(payload)], self.at).expect("there is room");
        self.file.sync_data().expect("the disk works");
        self.at = (self.at + payload.len() as u64) % OPTIONS.segment_bytes;
    }
}

/// The bare file and the log take turns, whichever of them is timed: so both see the same disk, however busy it is.
fn append_and_sync(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append_sync");
    for (name, bytes) in SIZES {
        group.throughput(Throughput::Bytes(bytes as u64));
        let root = directory();
        let payload = Bytes::from(vec![0x5a; bytes]);
        let mut pair = (Raw::new(root.path()), open(root.path(), 1));
        let raw = |(raw, _): &mut (Raw, Log<RealDisk>)| raw.append_and_sync(&payload);
        let log = |(_, log): &mut (Raw, Log<RealDisk>)| {
            append(log, &payload);
            sync(log);
        };
        group.bench_function(BenchmarkId::new("raw", name), |bencher| {
            bencher.iter_custom(|rounds| {
                timed(rounds, &mut pair, raw, |pair| {
                    log(pair);
                    tend(&mut pair.1);
                })
            });
        });
        group.bench_function(BenchmarkId::new("log", name), |bencher| {
            bencher.iter_custom(|rounds| {
                timed(rounds, &mut pair, log, |pair| {
                    tend(&mut pair.1);
                    raw(pair);
                })
            });
        });
    }
    group.finish();
}

fn append_alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for (name, bytes) in SIZES {
        group.throughput(Throughput::Bytes(bytes as u64));
        let root = directory();
        let payload = Bytes::from(vec![0x5a; bytes]);
        let mut log = open(root.path(), 1);
        group.bench_function(BenchmarkId::new("log", name), |bencher| {
            bencher.iter_custom(|rounds| {
                let measured = |log: &mut Log<RealDisk>| append(log, &payload);
                let mut unsynced = 0;
                timed(rounds, &mut log, measured, |log| {
                    unsynced += bytes;
                    if unsynced >= 8 << 20 {
                        unsynced = 0;
                        sync(log);
                    }
                    tend(log);
                })
            });
        });
    }
    group.finish();
}

/// What is read is checked each time. Beside it the same bytes are read by `pread` into a buffer, without a look.
fn read_tail(criterion: &mut Criterion) {
    let root = directory();
    let mut log = open(root.path(), 1);
    let payload = Bytes::from(vec![0x5a; 1 << 10]);
    for _ in 0..40_000 {
        append(&mut log, &payload);
    }
    let last = log.last().index;
    let end = log.next_offset();
    let file = disk(root.path()).open(&root.path().join("groups/1/0000000000000001.segment"));
    let file = file.expect("the first segment");
    let mut group = criterion.benchmark_group("read");
    for (name, bytes) in [("64KiB", 64 << 10), ("1MiB", 1 << 20)] {
        group.throughput(Throughput::Bytes(bytes));
        // In the middle of the first segment, and in the page cache.
        let (at, first) = (8 << 20, Index(8 << 10));
        group.bench_function(format!("bare/{name}"), |bencher| {
            let mut buffer = vec![0; usize::try_from(bytes).expect("small")];
            bencher.iter(|| black_box(file.read_at(&mut buffer, at)));
        });
        group.bench_function(format!("checked/{name}"), |bencher| {
            bencher.iter(|| black_box(log.read_entries(first, last.next(), bytes)));
        });
    }
    group.throughput(Throughput::Bytes(64 << 10));
    group.bench_function("entries/64KiB", |bencher| {
        let from = Index(last.get() - 60);
        bencher.iter(|| black_box(log.read_entries(from, last.next(), 64 << 10)));
    });
    group.bench_function("batches/64KiB", |bencher| {
        let from = Offset(end.get() - 64);
        bencher.iter(|| black_box(log.read_batches(from, end, 64 << 10)));
    });
    group.finish();
}

fn open_idle_logs(criterion: &mut Criterion) {
    const LOGS: u64 = 1000;
    let root = directory();
    let payload = Bytes::from(vec![0x5a; 200]);
    let floors: Vec<Position> = (0..LOGS)
        .map(|group| {
            let mut log = open(root.path(), group);
            append(&mut log, &payload);
            sync(&mut log);
            log.durable_position()
        })
        .collect();
    let disk = disk(root.path());
    let mut group = criterion.benchmark_group("open");
    group.throughput(Throughput::Elements(LOGS));
    group.bench_function("1000 idle logs", |bencher| {
        let open_all = || -> Vec<Log<RealDisk>> {
            (0..LOGS)
                .zip(&floors)
                .map(|(group, floor)| open_on(disk.clone(), root.path(), group, *floor))
                .collect()
        };
        bencher.iter_batched(|| (), |()| open_all(), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, append_and_sync, append_alone, read_tail, open_idle_logs);
criterion_main!(benches);
