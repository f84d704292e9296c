//! The end of a group's log as the shard sees it: the entries that are appended and not yet committed, and the
//! offsets that go with them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use raftline_proto::command::Command;
use raftline_proto::entry::{BatchInfo, EntryBody, EntryInfo};
use raftline_proto::ids::{EntryId, Index, Offset};
use raftline_proto::metadata::MetadataRecord;
use raftline_raft::types::LogStart;

/// The entries after the last applied one.
///
/// Invariant: `pending` holds exactly the entries of the log with an index above `applied`, in order, without gaps,
/// each beginning at the offset where the one before ends, the last ending at `end_offset`.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    start: LogStart,
    /// Records below were deleted by request. What of them is in the log still is not shown to readers.
    trimmed_to: Offset,
    last: EntryId,
    applied: Index,
    end_offset: Offset,
    pending: VecDeque<TailEntry>,
}

/// One entry, as far as it still matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TailEntry {
    pub id: EntryId,
    pub base_offset: Offset,
    pub body: TailBody,
}

/// What an entry will do once it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TailBody {
    /// A no-op or a membership: nothing that concerns the shard.
    Plain,
    Data(BatchInfo),
    Metadata(Vec<MetadataRecord>),
    Command(Command),
}

/// Why an entry cannot follow the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TailError {
    /// Its index does not follow.
    Index { expected: Index, found: Index },
    /// Its base offset does not follow.
    Offset { entry: EntryId, expected: Offset, found: Offset },
}

impl Tail {
    /// The first entry after `start`, before any is known. Used when a log's replay begins.
    pub fn begin(&mut self, start: LogStart) {
        *self = Self {
            start,
            trimmed_to: Offset::ZERO,
            last: start.previous,
            applied: start.previous.index,
            end_offset: start.offset,
            pending: VecDeque::new(),
        };
    }

    /// Throws everything away and begins at `start`, which the leader vouches to be committed. What was applied stays so.
    pub fn reset(&mut self, start: LogStart) {
        let (applied, trimmed_to) = (self.applied.max(start.previous.index), self.trimmed_to);
        self.begin(start);
        (self.applied, self.trimmed_to) = (applied, trimmed_to);
    }

    /// Takes the next entry of the log. Gives it back if it is still to be applied.
    pub fn push(&mut self, entry: &EntryInfo) -> Result<Option<&TailEntry>, TailError> {
        let header = &entry.header;
        let expected = self.last.index.next();
        if header.id.index != expected {
            return Err(TailError::Index { expected, found: header.id.index });
        }
        if header.base_offset != self.end_offset {
            return Err(TailError::Offset {
                entry: header.id,
                expected: self.end_offset,
                found: header.base_offset,
            });
        }
        self.last = header.id;
        self.end_offset = header.next_offset();
        if header.id.index <= self.applied {
            // It comes again after a disk had refused it: it has been applied before.
            return Ok(None);
        }
        let body = match &entry.body {
            EntryBody::NoOp | EntryBody::Membership(_) | EntryBody::Gap { .. } => TailBody::Plain,
            EntryBody::Data(batch) => TailBody::Data(*batch),
            EntryBody::Metadata(records) => TailBody::Metadata(records.clone()),
            EntryBody::Command(command) => TailBody::Command(command.clone()),
        };
        self.pending.push_back(TailEntry { id: header.id, base_offset: header.base_offset, body });
        Ok(self.pending.back())
    }

    /// Takes the first entry away if it is committed `through` here.
    pub fn pop_committed(&mut self, through: Index) -> Option<TailEntry> {
        let front = self.pending.front()?;
        if front.id.index > through {
            return None;
        }
        self.applied = front.id.index;
        self.pending.pop_front()
    }

    /// Forgets `from` and all after it; `previous` is the entry before `from`.
    pub fn truncate(&mut self, from: Index) -> Vec<TailEntry> {
        let mut dropped = Vec::new();
        while self.pending.back().is_some_and(|entry| entry.id.index >= from) {
            if let Some(entry) = self.pending.pop_back() {
                self.end_offset = entry.base_offset;
                dropped.push(entry);
            }
        }
        self.last = match (self.pending.back(), from.previous()) {
            (Some(entry), _) => entry.id,
            // Only index matters below; the term of an applied entry is not kept here.
            (None, Some(index)) => EntryId::new(self.last.term, index.min(self.last.index)),
            (None, None) => EntryId::ZERO,
        };
        dropped
    }

    /// The disk kept nothing after `last`, where offsets end at `next_offset`.
    pub fn roll_back(&mut self, last: EntryId, next_offset: Offset) -> Vec<TailEntry> {
        let dropped = self.truncate(last.index.next());
        self.last = last;
        self.end_offset = next_offset;
        dropped
    }

    /// The log's prefix is gone. News of an earlier trim than is known comes late: the log was reset meanwhile.
    pub fn trimmed(&mut self, start: LogStart) {
        if start.previous.index >= self.start.previous.index {
            self.start = start;
        }
    }

    /// Records below `offset` are deleted, by a committed command.
    pub fn trim_to(&mut self, offset: Offset) {
        self.trimmed_to = self.trimmed_to.max(offset);
    }

    /// Where the log starts, on the disk.
    pub fn start(&self) -> LogStart {
        self.start
    }

    /// The first offset that readers are given.
    pub fn start_offset(&self) -> Offset {
        self.start.offset.max(self.trimmed_to)
    }

    /// The last entry. Its term is only right while it is pending.
    pub fn last_index(&self) -> Index {
        self.last.index
    }

    /// The last entry that was applied.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// One past the last appended record.
    pub fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// One past the last committed record.
    pub fn high_watermark(&self) -> Offset {
        self.pending.front().map_or(self.end_offset, |entry| entry.base_offset)
    }

    /// The entries that are not committed yet.
    pub fn pending(&self) -> impl DoubleEndedIterator<Item = &TailEntry> + ExactSizeIterator {
        self.pending.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftline_proto::entry::EntryHeader;
    use raftline_proto::ids::{GroupId, Term};
    use raftline_proto::time::Timestamp;

    fn data(term: u64, index: u64, base_offset: u64, record_count: u32) -> EntryInfo {
        let batch = BatchInfo {
            batch_bytes: 100,
            record_count,
            base_timestamp: Timestamp(0),
            max_timestamp: Timestamp(0),
            producer: None,
        };
        let id = EntryId::new(Term(term), Index(index));
        EntryInfo::new(GroupId(1), id, Offset(base_offset), EntryBody::Data(batch))
    }

    fn no_op(term: u64, index: u64, base_offset: u64) -> EntryInfo {
        let id = EntryId::new(Term(term), Index(index));
        EntryInfo::new(GroupId(1), id, Offset(base_offset), EntryBody::NoOp)
    }

    fn tail_of(entries: &[EntryInfo]) -> Tail {
        let mut tail = Tail::default();
        for entry in entries {
            tail.push(entry).expect("follows");
        }
        tail
    }

    fn three() -> Tail {
        tail_of(&[no_op(1, 1, 0), data(1, 2, 0, 3), data(1, 3, 3, 2)])
    }

    #[test]
    fn the_watermark_follows_the_commit() {
        let mut tail = three();
        assert_eq!((tail.high_watermark(), tail.end_offset()), (Offset(0), Offset(5)));
        assert_eq!(tail.pop_committed(Index(2)).map(|entry| entry.id.index), Some(Index(1)));
        assert_eq!(tail.pop_committed(Index(2)).map(|entry| entry.id.index), Some(Index(2)));
        assert_eq!(tail.pop_committed(Index(2)), None);
        assert_eq!((tail.high_watermark(), tail.applied()), (Offset(3), Index(2)));
        tail.pop_committed(Index(3));
        assert_eq!(tail.high_watermark(), Offset(5));
    }

    #[test]
    fn what_does_not_follow_is_refused() {
        let mut tail = three();
        let found = EntryHeader { base_offset: Offset(6), ..data(1, 4, 5, 1).header };
        let gap = EntryInfo { header: found, ..data(1, 4, 5, 1) };
        assert_eq!(
            tail.push(&gap),
            Err(TailError::Offset { entry: gap.header.id, expected: Offset(5), found: Offset(6) })
        );
        let skipped = TailError::Index { expected: Index(4), found: Index(5) };
        assert_eq!(tail.push(&data(1, 5, 5, 1)), Err(skipped));
        assert_eq!(tail.end_offset(), Offset(5), "a refusal changes nothing");
    }

    #[test]
    fn a_cut_takes_offsets_back() {
        let mut tail = three();
        tail.pop_committed(Index(1));
        let dropped: Vec<Index> = tail.truncate(Index(2)).iter().map(|entry| entry.id.index).collect();
        assert_eq!(dropped, [Index(3), Index(2)], "the last first");
        assert_eq!((tail.last_index(), tail.end_offset()), (Index(1), Offset(0)));
        tail.push(&data(2, 2, 0, 9)).expect("another entry in its place");
        assert_eq!(tail.end_offset(), Offset(9));
    }

    #[test]
    fn what_a_disk_refused_after_it_was_applied_is_not_applied_twice() {
        let mut tail = three();
        while tail.pop_committed(Index(3)).is_some() {}
        let last = EntryId::new(Term(1), Index(2));
        assert_eq!(tail.roll_back(last, Offset(3)), []);
        assert_eq!((tail.end_offset(), tail.applied()), (Offset(3), Index(3)));
        assert_eq!(tail.push(&data(1, 3, 3, 2)).expect("follows"), None);
        assert_eq!(tail.end_offset(), Offset(5));
        assert!(tail.push(&data(1, 4, 5, 1)).expect("follows").is_some());
    }

    #[test]
    fn a_reset_begins_anew() {
        let mut tail = three();
        let start = LogStart { previous: EntryId::new(Term(3), Index(90)), offset: Offset(700) };
        tail.reset(start);
        assert_eq!(
            (tail.applied(), tail.high_watermark(), tail.end_offset()),
            (Index(90), Offset(700), Offset(700))
        );
        tail.push(&data(3, 91, 700, 1)).expect("follows");
        tail.trimmed(LogStart::default());
        assert_eq!(tail.start(), start, "late news of an earlier trim");
    }

    #[test]
    fn what_was_deleted_stays_so_until_the_log_begins_behind_it() {
        let mut tail = three();
        tail.trim_to(Offset(3));
        tail.trim_to(Offset(2));
        assert_eq!((tail.start_offset(), tail.start().offset), (Offset(3), Offset(0)));
        tail.reset(LogStart { previous: EntryId::new(Term(3), Index(9)), offset: Offset(2) });
        assert_eq!(tail.start_offset(), Offset(3));
        tail.trimmed(LogStart { previous: EntryId::new(Term(3), Index(10)), offset: Offset(4) });
        assert_eq!(tail.start_offset(), Offset(4));
    }
}
