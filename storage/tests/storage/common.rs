//! What all tests of the log share: a group, entries that say who they are, and ways to look at a log.

use bytes::Bytes;
use raftline_proto::batch::{Builder, Codec, stamped};
use raftline_proto::command::{Command, TrimReason};
use raftline_proto::entry::{EntryHeader, EntryKind};
use raftline_proto::ids::{EntryId, GroupId, Index, Offset, Position, Term};
use raftline_proto::time::Timestamp;
use raftline_storage::{Disk, Log, LogOptions, OpenError, SimDisk};
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use std::path::{Path, PathBuf};

pub const GROUP: GroupId = GroupId(7);

pub type Chance = Xoshiro256PlusPlus;

/// An entry as a test remembers it.
pub type Entry = (EntryHeader, Bytes);

pub fn chance(seed: u64) -> Chance {
    Chance::seed_from_u64(seed)
}

pub fn dir() -> PathBuf {
    PathBuf::from("/data/groups/7")
}

/// Tests that take a size by chance get a bound of time with every odd one: some twenty of [`Writer::data`]'s entries.
pub fn options(segment_bytes: u64) -> LogOptions {
    let segment_ms = if segment_bytes.is_multiple_of(2) { i64::MAX } else { 200 };
    LogOptions { segment_bytes, segment_ms }
}

pub fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

pub fn open(disk: &SimDisk, segment_bytes: u64, floor: Position) -> Result<Log<SimDisk>, OpenError> {
    Log::open(disk.clone(), &dir(), GROUP, options(segment_bytes), floor)
}

/// A disk with a data directory that is there for good.
pub fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

/// A fresh disk with an empty log on it.
pub fn fresh(segment_bytes: u64) -> (SimDisk, Log<SimDisk>) {
    let disk = disk();
    let log = open(&disk, segment_bytes, Position::ZERO).unwrap();
    (disk, log)
}

/// Appends entries one after the other, staged ones counted.
pub struct Writer {
    next: Index,
    offset: Offset,
}

impl Writer {
    pub fn of<D: Disk>(log: &Log<D>) -> Self {
        Self { next: log.last().index.next(), offset: log.next_offset() }
    }

    /// A data entry of 1 to 3 records, whose payload differs for each (term, index) but is no record batch.
    pub fn data<D: Disk>(&mut self, log: &mut Log<D>, term: u64, bytes: usize) -> Entry {
        let payload = payload(term, self.next.0, bytes);
        let records = u32::try_from(1 + (self.next.0 + term) % 3).unwrap();
        self.push(log, term, EntryKind::Data, records, payload)
    }

    pub fn no_op<D: Disk>(&mut self, log: &mut Log<D>, term: u64) -> Entry {
        self.push(log, term, EntryKind::NoOp, 0, Bytes::new())
    }

    /// A snapshot of no producers.
    pub fn snapshot<D: Disk>(&mut self, log: &mut Log<D>, term: u64) -> Entry {
        let payload = Command::Producers { producers: [].into() }.encode();
        self.push(log, term, EntryKind::Command, 0, payload.into())
    }

    /// The command that lets all go that is in the log so far.
    pub fn trim_all<D: Disk>(&mut self, log: &mut Log<D>, term: u64) -> Entry {
        let payload = Command::TrimTo { offset: self.offset, reason: TrimReason::Age }.encode();
        self.push(log, term, EntryKind::Command, 0, payload.into())
    }

    /// A data entry with a real record batch, one record for each timestamp.
    pub fn batch<D: Disk>(&mut self, log: &mut Log<D>, term: u64, codec: Codec, times: &[i64]) -> Entry {
        let mut builder = Builder::new(codec);
        for time in times {
            let value = time.to_string();
            builder.push(Timestamp(*time), None, Some(value.as_bytes()), &[]).unwrap();
        }
        let parts = stamped(&builder.build(), self.offset, Term(term));
        let payload = Bytes::from([&parts[0][..], &parts[1][..]].concat());
        self.push(log, term, EntryKind::Data, u32::try_from(times.len()).unwrap(), payload)
    }

    fn push<D: Disk>(
        &mut self,
        log: &mut Log<D>,
        term: u64,
        kind: EntryKind,
        record_count: u32,
        payload: Bytes,
    ) -> Entry {
        let header = EntryHeader {
            group: GROUP,
            id: EntryId::new(Term(term), self.next),
            kind,
            base_offset: self.offset,
            record_count,
            payload_bytes: u32::try_from(payload.len()).unwrap(),
        };
        let first = if kind == EntryKind::Data { payload.len() / 2 } else { payload.len() };
        log.append(header, [payload.slice(..first), payload.slice(first..)]);
        self.next = self.next.next();
        self.offset = header.next_offset();
        (header, payload)
    }
}

/// Appends and writes `count` data entries.
pub fn fill<D: Disk>(log: &mut Log<D>, term: u64, count: usize, bytes: usize) -> Vec<Entry> {
    let mut writer = Writer::of(log);
    let entries = (0..count).map(|_| writer.data(log, term, bytes)).collect();
    log.write().unwrap();
    entries
}

fn payload(term: u64, index: u64, bytes: usize) -> Bytes {
    let mut payload = vec![0; bytes];
    chance(term << 32 | index).fill(&mut payload[..]);
    if bytes >= 61 {
        payload[35..43].copy_from_slice(&time_of(index).to_be_bytes());
    }
    payload.into()
}

/// The greatest timestamp in [`Writer::data`]'s payloads: rises with the index, but jumps back now and then.
pub fn time_of(index: u64) -> i64 {
    let jump = if index.is_multiple_of(5) { 30 } else { 0 };
    i64::try_from(index * 10).unwrap() - jump
}

/// Syncs all, and says what is durable then.
pub fn sync<D: Disk>(log: &mut Log<D>) -> EntryId {
    match log.begin_sync() {
        Some(ticket) => {
            ticket.run().unwrap();
            log.durable_through(ticket.through())
        }
        None => log.durable(),
    }
}

/// Retention as a group carries it out, at once: what no longer stays goes, durably. Where the log begins then, if that
/// moved.
pub fn retain<D: Disk>(
    log: &mut Log<D>,
    older_than: Option<Timestamp>,
    bytes_max: Option<u64>,
    up_to: Index,
) -> Option<(EntryId, Offset)> {
    let before = log.start();
    let outlived = log.outlived(older_than, bytes_max, up_to)?;
    log.trim(outlived.below, up_to).unwrap();
    sync(log);
    (log.start() != before).then(|| log.start())
}

/// The whole log by replay.
pub fn contents<D: Disk>(log: &Log<D>) -> Vec<Entry> {
    log.replay(Index(0)).collect::<Result<_, _>>().unwrap()
}

/// The segment files, oldest first.
pub fn segment_files(disk: &SimDisk) -> Vec<PathBuf> {
    let names = disk.list(&dir()).unwrap_or_default();
    names.into_iter().filter(|name| name.ends_with(".segment")).map(|name| dir().join(name)).collect()
}
