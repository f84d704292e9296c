//! What log compaction costs beside the disk: a job over a log of which about a third of the records stays, next to reading
//! as many bytes and writing and syncing as many as stay, in the same directory and run. The ratio is the figure that
//! travels between machines. Beside it: what the shard's thread does when the job is done.
//!
//! `cargo bench -p raftline-benches --bench compact`
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftline_proto::batch::{Builder, Codec};
use raftline_proto::entry::{EntryHeader, EntryKind};
use raftline_proto::ids::{EntryId, GroupId, Offset, Position, Term};
use raftline_proto::time::Timestamp;
use raftline_storage::{CompactionRule, Log, LogOptions, RealDisk};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const RECORDS: u64 = 120_000;
const RECORDS_PER_BATCH: u64 = 60;
const VALUE_BYTES: usize = 200;
const KEYS: u64 = 50_000;
const OPTIONS: LogOptions = LogOptions { segment_bytes: 8 << 20, segment_ms: i64::MAX };
const CODECS: [(&str, Codec); 2] = [("none", Codec::None), ("lz4", Codec::Lz4)];

/// A log of keyed records on the disk that holds the build, which is a real one, and all of it durable.
struct Keyed {
    root: tempfile::TempDir,
    log: Log<RealDisk>,
}

impl Keyed {
    fn new(batches: &[Bytes]) -> Self {
        let root =
            tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build directory is writable");
        let disk = RealDisk::new(root.path()).expect("the directory was just made");
        let dir = root.path().join("log");
        let log = Log::open(disk, &dir, GroupId(1), OPTIONS, Position::ZERO);
        let mut log = log.expect("the directory is empty");
        for batch in batches {
            let header = EntryHeader {
                group: log.group(),
                id: EntryId::new(Term(1), log.last().index.next()),
                kind: EntryKind::Data,
                base_offset: log.next_offset(),
                record_count: u32::try_from(RECORDS_PER_BATCH).expect("few"),
                payload_bytes: u32::try_from(batch.len()).expect("small"),
            };
            log.append(header, [batch.clone(), Bytes::new()]);
            log.write().expect("there is room");
        }
        let ticket = log.begin_sync().expect("something was written");
        ticket.run().expect("the disk works");
        log.durable_through(ticket.through());
        Self { root, log }
    }

    fn files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.root.path().join("log")).expect("it is there");
        files.filter_map(|file| Some(file.ok()?.path())).filter(|path| path.is_file()).collect()
    }
}

/// Each key again and again, in no order.
fn batches(codec: Codec) -> Vec<Bytes> {
    let record = |number: u64| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16) % KEYS;
    let batch = |first: u64| {
        let mut builder = Builder::new(codec);
        for number in first..first + RECORDS_PER_BATCH {
            let key = format!("key {}", record(number));
            // Half of it repeats, as text does.
            let value: Vec<u8> =
                (0..VALUE_BYTES).map(|at| record(number + at as u64 / 2).to_le_bytes()[0]).collect();
            builder.push(Timestamp(0), Some(key.as_bytes()), Some(&value), &[]).expect("it fits");
        }
        builder.build()
    };
    (0..RECORDS / RECORDS_PER_BATCH).map(|nth| batch(nth * RECORDS_PER_BATCH)).collect()
}

/// Reads files whole, and writes and syncs as many bytes as `kept`.
fn copy_raw(files: &[PathBuf], kept: u64, beside: &Path) {
    let mut chunk = vec![0; 1 << 20];
    let mut out = std::fs::File::create(beside).expect("there is room");
    let mut left = usize::try_from(kept).expect("small");
    for file in files {
        let mut file = std::fs::File::open(file).expect("it is there");
        loop {
            let found = file.read(&mut chunk).expect("the disk works");
            if found == 0 {
                break;
            }
            let taken = found.min(left);
            out.write_all(&chunk[..taken]).expect("there is room");
            left -= taken;
        }
    }
    out.sync_data().expect("the disk works");
}

#[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn time(measured: impl FnOnce()) -> Duration {
    let start = Instant::now();
    measured();
    start.elapsed()
}

/// How long the parts of a compaction took.
struct Took {
    job: Duration,
    adoption: Duration,
}

/// Compacts a log; says how long that took, and how many bytes stayed.
fn compacted(keyed: &mut Keyed) -> (Took, u64) {
    let through = keyed.log.last().index;
    let rule = CompactionRule { through, tombstones_before: Offset::ZERO, memory_bytes_max: 64 << 20 };
    let job = keyed.log.compaction(rule).expect("it is durable").expect("there is work");
    let (mut done, mut kept) = (None, 0);
    let job = time(|| done = Some(job.run().expect("the disk works")));
    let adoption = time(|| {
        let facts = keyed.log.adopt(done.take().expect("it ran")).expect("nothing else changed it");
        kept = facts.clean_bytes;
    });
    (Took { job, adoption }, kept)
}

fn compact(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compact");
    group.sample_size(10);
    for (name, codec) in CODECS {
        let batches = batches(codec);
        group.throughput(Throughput::Bytes(batches.iter().map(|batch| batch.len() as u64).sum()));
        let kept = compacted(&mut Keyed::new(&batches)).1;
        group.bench_function(BenchmarkId::new("job", name), |bencher| {
            bencher
                .iter_custom(|rounds| (0..rounds).map(|_| compacted(&mut Keyed::new(&batches)).0.job).sum());
        });
        group.bench_function(BenchmarkId::new("raw", name), |bencher| {
            let keyed = Keyed::new(&batches);
            let (files, beside) = (keyed.files(), keyed.root.path().join("raw"));
            bencher.iter_custom(|rounds| (0..rounds).map(|_| time(|| copy_raw(&files, kept, &beside))).sum());
        });
        group.bench_function(BenchmarkId::new("adopt", name), |bencher| {
            bencher.iter_custom(|rounds| {
                (0..rounds).map(|_| compacted(&mut Keyed::new(&batches)).0.adoption).sum()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, compact);
criterion_main!(benches);
