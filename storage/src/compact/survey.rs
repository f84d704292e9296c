//! What has to be known of the log before any entry can be judged: each key's last offset, and the last batch of all.
//!
//! Keys are looked for in the part that was not compacted before: the rest has each key once at most, so that its
//! records are last unless the part above says otherwise.

use super::filter::{Batch, opened};
use super::job::Reading;
use super::keys::{Hash, Hashes, Keys};
use super::{CompactionRule, Piece};
use crate::disk::Disk;
use crate::error::CompactionError;
use crate::recover::Frame;
use raftline_proto::entry::EntryKind;
use raftline_proto::ids::{Index, Offset};
use std::ops::ControlFlow;

/// What is known of all entries at or below the compaction point.
pub(super) struct Survey {
    pub(super) hashes: Hashes,
    /// The last data entry.
    pub(super) last_batch: Option<Index>,
}

impl Survey {
    /// Looks for the last batch: in the last piece that has one.
    pub(super) fn of<D: Disk>(
        reading: &Reading<'_, D>,
        pieces: &[Piece],
        rule: &CompactionRule,
    ) -> Result<Self, CompactionError> {
        let mut survey = Self { hashes: Hashes::new(), last_batch: None };
        for piece in pieces.iter().rev() {
            reading.each(piece, |frame| {
                let header = &frame.header;
                if header.kind == EntryKind::Data && header.id.index <= rule.through {
                    survey.last_batch = Some(header.id.index);
                }
                Ok(ControlFlow::Continue(()))
            })?;
            if survey.last_batch.is_some() {
                break;
            }
        }
        Ok(survey)
    }

    /// Takes note of the keys with hashes from `first` on, as many as memory has room for, of the entries after
    /// `clean_through`.
    pub(super) fn keys<D: Disk>(
        &self,
        reading: &Reading<'_, D>,
        pieces: &[Piece],
        rule: &CompactionRule,
        clean_through: Index,
        first: u64,
    ) -> Result<Keys, CompactionError> {
        let mut keys = Keys::from(first, rule.memory_bytes_max);
        let mut noted = Vec::new();
        for piece in pieces.iter().filter(|piece| piece.up_to > clean_through.next()) {
            reading.each(piece, |frame| {
                let index = frame.header.id.index;
                if frame.header.kind == EntryKind::Data && index > clean_through && index <= rule.through {
                    noted.clear();
                    self.hash_keys(frame, &mut noted);
                    noted.iter().for_each(|(hash, offset)| keys.note(*hash, *offset));
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(keys)
    }
    /// The keys of a batch's records. None, if any of the records cannot be read: then none of them is dropped (see
    /// `filter`), so none may take another's place either.
    fn hash_keys(&self, frame: &Frame<'_>, into: &mut Vec<(Hash, Offset)>) {
        let Batch::Readable(view) = opened(frame.payload()) else { return };
        for record in view.records() {
            let Ok(record) = record else { return into.clear() };
            into.extend(record.key.map(|key| (self.hashes.of(key), record.offset)));
        }
    }
}
