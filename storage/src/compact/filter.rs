//! What becomes of an entry.

use super::CompactionRule;
use super::keys::Keys;
use super::survey::Survey;
use crate::recover::Frame;
use bytes::Bytes;
use raftline_proto::batch::compact::{Left, emptied, rewritten};
use raftline_proto::batch::{BatchView, Record};
use raftline_proto::entry::{EntryHeader, EntryKind};

/// The judge of one round.
pub(super) struct Filter<'a> {
    pub(super) survey: &'a Survey,
    pub(super) keys: &'a Keys,
    pub(super) rule: &'a CompactionRule,
}

/// What becomes of an entry.
#[derive(Debug)]
pub(super) enum Fate {
    /// It stays as it is.
    Stays,
    /// It stays with this batch.
    Shrinks(Bytes),
    /// It goes into a gap.
    Goes,
}

/// A stored batch, as far as it can be read.
pub(super) enum Batch {
    Readable(BatchView),
    /// A client may send packed records that nobody can unpack, and the broker does not look. They stay for ever, the
    /// same on every replica.
    Opaque,
}

/// Opens a batch of a frame whose checksum was verified.
pub(super) fn opened(payload: &[u8]) -> Batch {
    BatchView::open(&Bytes::copy_from_slice(payload)).map_or(Batch::Opaque, Batch::Readable)
}

impl Filter<'_> {
    /// Judges a frame.
    pub(super) fn judge(&self, frame: &Frame<'_>) -> Fate {
        if frame.header.id.index > self.rule.through {
            return Fate::Stays;
        }
        match frame.header.kind {
            // Raft finds the memberships in the log.
            EntryKind::Membership | EntryKind::Metadata => Fate::Stays,
            // What commands say is said again above `through`: by the compaction's own command, and by the snapshot of the
            // producers in front of it.
            EntryKind::NoOp | EntryKind::Command | EntryKind::Gap => Fate::Goes,
            EntryKind::Data => self.judge_batch(frame),
        }
    }

    fn judge_batch(&self, frame: &Frame<'_>) -> Fate {
        let Batch::Readable(view) = opened(frame.payload()) else { return Fate::Stays };
        match rewritten(&view, |record| self.keeps(record)) {
            Ok(Left::Everything) | Err(_) => Fate::Stays,
            Ok(Left::Some(batch)) => Fate::Shrinks(batch),
            Ok(Left::Nothing) if !self.is_last(&frame.header) => Fate::Goes,
            Ok(Left::Nothing) => {
                let empty = emptied(view.header());
                // One that was emptied before comes out the same.
                if empty == frame.payload() { Fate::Stays } else { Fate::Shrinks(empty) }
            }
        }
    }

    fn keeps(&self, record: &Record<'_>) -> bool {
        // A record without a key is not any key's last one.
        let Some(key) = record.key else { return true };
        let hash = self.survey.hashes.of(key);
        if !self.keys.covers(hash) {
            return true;
        }
        let is_last = self.keys.last_of(hash).is_none_or(|last| last <= record.offset);
        let is_old_tombstone = record.value.is_none() && record.offset < self.rule.tombstones_before;
        is_last && !is_old_tombstone
    }

    /// Whether a batch has to stay though it has no records: the last of all, by which readers find the end.
    fn is_last(&self, header: &EntryHeader) -> bool {
        self.survey.last_batch == Some(header.id.index)
    }
}
