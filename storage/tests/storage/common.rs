//! What all tests of the log share: a group, entries that say who they are, and a model to compare with.

use bytes::Bytes;
use raftline_proto::entry::{EntryHeader, EntryKind};
use raftline_proto::ids::{EntryId, GroupId, Index, Offset, Position, Term};
use raftline_storage::{Disk, Log, LogOptions, OpenError, SimDisk};
use std::path::{Path, PathBuf};

pub const GROUP: GroupId = GroupId(7);

pub fn dir() -> PathBuf {
    PathBuf::from("/data/groups/7")
}

pub fn options(segment_bytes: u64) -> LogOptions {
    LogOptions { segment_bytes }
}

pub fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

pub fn open(disk: &SimDisk, segment_bytes: u64, floor: Position) -> Result<Log<SimDisk>, OpenError> {
    Log::open(disk.clone(), &dir(), GROUP, options(segment_bytes), floor)
}

/// Appends a data entry of `records` records after what the log has, staged or written; `seed` makes its bytes.
pub struct Writer {
    pub next: Index,
    pub offset: Offset,
}

impl Writer {
    pub fn of<D: Disk>(log: &Log<D>) -> Self {
        Self { next: log.last().index.next(), offset: log.next_offset() }
    }

    pub fn data<D: Disk>(&mut self, log: &mut Log<D>, term: u64, bytes: usize) -> (EntryHeader, Bytes) {
        let payload = payload(term, self.next.0, bytes);
        let records = u32::try_from(1 + (self.next.0 + term) % 3).unwrap();
        self.push(log, term, EntryKind::Data, records, payload)
    }

    pub fn no_op<D: Disk>(&mut self, log: &mut Log<D>, term: u64) -> (EntryHeader, Bytes) {
        self.push(log, term, EntryKind::NoOp, 0, Bytes::new())
    }

    fn push<D: Disk>(
        &mut self,
        log: &mut Log<D>,
        term: u64,
        kind: EntryKind,
        record_count: u32,
        payload: Bytes,
    ) -> (EntryHeader, Bytes) {
        let header = EntryHeader {
            group: GROUP,
            id: EntryId::new(Term(term), self.next),
            kind,
            base_offset: self.offset,
            record_count,
            payload_bytes: u32::try_from(payload.len()).unwrap(),
        };
        log.append(header, [payload.slice(..payload.len() / 2), payload.slice(payload.len() / 2..)]);
        self.next = self.next.next();
        self.offset = header.next_offset();
        (header, payload)
    }
}

/// Bytes that differ for each (term, index). From 61 bytes on they carry a timestamp as a record batch does.
pub fn payload(term: u64, index: u64, bytes: usize) -> Bytes {
    let mut state = term.wrapping_mul(0x9e37_79b9).wrapping_add(index) | 1;
    let mut payload: Vec<u8> = (0..bytes)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .collect();
    if bytes >= 61 {
        payload[35..43].copy_from_slice(&timestamp(index).to_be_bytes());
    }
    payload.into()
}

/// Rises with the index, but jumps back now and then.
pub fn timestamp(index: u64) -> i64 {
    let jump = if index % 5 == 0 { 30 } else { 0 };
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

/// The whole log by replay.
pub fn contents<D: Disk>(log: &Log<D>) -> Vec<(EntryHeader, Bytes)> {
    log.replay(Index(1)).collect::<Result<_, _>>().unwrap()
}

/// The live segment files, oldest first.
pub fn segment_files(disk: &SimDisk) -> Vec<PathBuf> {
    let names = disk.list(&dir()).unwrap_or_default();
    names.into_iter().filter(|name| name.ends_with(".segment")).map(|name| dir().join(name)).collect()
}

pub fn file_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}
