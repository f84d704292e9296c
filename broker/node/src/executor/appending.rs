//! Effects that change a group's log.
//!
//! Appends are staged and written together. What the disk refuses is told at the end of the turn, once for each group,
//! with the log's end as it is then.

use raftline_proto::batch;
use raftline_proto::command::TrimReason;
use raftline_proto::entry::{EntryHeader, EntryInfo, EntryKind};
use raftline_proto::ids::{GroupId, Index, Offset};
use raftline_proto::time::Timestamp;
use raftline_shard::types::{Event, Outlived};
use raftline_storage::{AppendError, Disk, Log};

use super::{Executor, Outside};
use crate::payload::Payload;

impl<D: Disk> Executor<D> {
    /// Stages an entry that this node made as the leader.
    pub(super) fn append(&mut self, entry: &EntryInfo, payload: Option<Payload>) {
        let header = entry.header;
        let Some(open) = self.touch(header.group) else { return };
        if open.refused {
            return;
        }
        let parts = match (header.kind, payload) {
            (EntryKind::Data, Some(payload)) => {
                batch::stamped(payload.bytes(), header.base_offset, header.id.term)
            }
            (EntryKind::Data, None) => panic!("the shard ordered a data entry without its batch: {header:?}"),
            (
                EntryKind::NoOp
                | EntryKind::Membership
                | EntryKind::Metadata
                | EntryKind::Command
                | EntryKind::Gap,
                _,
            ) => {
                let encoded = entry.body.encode_payload().expect("only data entries have no encoding");
                [encoded.into(), bytes::Bytes::new()]
            }
        };
        open.log.append(header, parts);
        self.bytes_appended += header.entry_bytes();
        self.stage(header.group);
    }

    /// Stages a leader's entries, byte for byte.
    pub(super) fn accept(
        &mut self,
        group: GroupId,
        entries: &[EntryHeader],
        skip_bytes: u64,
        payload: &Payload,
    ) {
        let Some(open) = self.touch(group) else { return };
        if open.refused || entries.is_empty() {
            return;
        }
        let skip = usize::try_from(skip_bytes).expect("within a message");
        let entry_bytes: u64 = entries.iter().map(EntryHeader::entry_bytes).sum();
        let up_to = skip + usize::try_from(entry_bytes).expect("within a message");
        open.log.append_encoded(entries, payload.bytes().slice(skip..up_to));
        self.bytes_appended += entry_bytes;
        self.stage(group);
    }

    fn stage(&mut self, group: GroupId) {
        if let Some(open) = self.groups.get_mut(&group)
            && !open.staged
        {
            open.staged = true;
            self.staged.push(group);
        }
    }

    /// Writes what all groups have staged.
    pub(super) fn write_all(&mut self) {
        for group in std::mem::take(&mut self.staged) {
            self.write(group);
        }
    }

    /// Writes what one group has staged, in one write.
    pub(super) fn write(&mut self, group: GroupId) {
        let Some(open) = self.groups.get_mut(&group).filter(|open| open.staged) else { return };
        open.staged = false;
        // What came before a refusal in the same write may have been written.
        self.dirty.insert(group);
        match open.log.write() {
            Ok(()) => {
                if std::mem::take(&mut open.full) {
                    tracing::info!(partition = (self.names)(group), last = %open.log.last(), "the disk takes appends again");
                }
            }
            Err(AppendError { last, source }) => {
                // Once, not for every retry: a leader tries again several times a second.
                if !std::mem::replace(&mut open.full, true) {
                    tracing::warn!(partition = (self.names)(group), %last, error = %source, "the disk refuses appends");
                }
                if !std::mem::replace(&mut open.refused, true) {
                    self.refused.push(group);
                }
            }
        }
    }

    /// Tells of the appends that were refused, ahead of what else there is to tell: another answer may make the shard
    /// append after the entries that are not there.
    pub(super) fn tell_refused(&mut self, answers: &mut Vec<Event<Payload>>) {
        for group in std::mem::take(&mut self.refused) {
            if let Some(open) = self.groups.get_mut(&group) {
                open.refused = false;
                let (last, next_offset) = (open.log.last(), open.log.next_offset());
                answers.insert(0, Event::AppendFailed { group, last, next_offset });
            }
        }
    }

    /// Truncates or resets. Done even after a refused append of the same turn: the shard believes that it was, and
    /// the `AppendFailed` at the end of the turn names the log's end as it is then.
    pub(super) fn change(
        &mut self,
        group: GroupId,
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
        change: impl FnOnce(&mut Log<D>) -> Result<(), AppendError>,
    ) {
        self.write(group);
        let Some(open) = self.touch(group) else { return };
        match change(&mut open.log) {
            Ok(()) => {
                if open.log.owes_segment() {
                    let last = open.log.last();
                    tracing::warn!(
                        partition = (self.names)(group),
                        %last,
                        "the log was cut and waits for room to go on"
                    );
                    self.owing.insert(group);
                }
                self.dirty.insert(group);
            }
            // The log holds what raft has given up, so the two disagree: the replica has to stay closed.
            Err(AppendError { last, source }) => {
                let reason = format!("the log could not be cut and ends at entry {last}: {source}");
                self.fail(group, reason, outside, answers);
            }
        }
    }

    /// Says what retention no longer covers.
    pub(super) fn appraise(
        &mut self,
        group: GroupId,
        (older_than, bytes_max): (Option<Timestamp>, Option<u64>),
        up_to: Index,
        answers: &mut Vec<Event<Payload>>,
    ) {
        self.write(group);
        let Some(open) = self.groups.get(&group) else { return };
        let outlived = open.log.outlived(older_than, bytes_max, up_to);
        let outlived = outlived.map(|outlived| Outlived { below: outlived.below, reason: outlived.reason });
        answers.push(Event::Appraised { group, outlived });
    }

    /// Has the oldest segments go with the next sync.
    pub(super) fn trim(
        &mut self,
        group: GroupId,
        (below, reason): (Offset, TrimReason),
        (commit_limit, kept_from): (Index, Option<Index>),
        answers: &mut Vec<Event<Payload>>,
    ) {
        self.write(group);
        let Some(open) = self.groups.get_mut(&group) else { return };
        let up_to = kept_from.map_or(commit_limit, |kept_from| kept_from.min(commit_limit));
        match open.log.trim(below, up_to) {
            Ok(false) => {}
            Ok(true) => {
                open.trim_reason = reason;
                self.dirty.insert(group);
            }
            // What is left stays; the next round of retention tries again.
            Err(error) => {
                tracing::warn!(partition = (self.names)(group), %error, "old segments could not be removed")
            }
        }
        // What is below the limit and stayed nevertheless was not kept for it: a file could not be written.
        if let Some(first_left) = open.log.first_left(below, commit_limit)
            && first_left > up_to
        {
            answers.push(Event::TrimHeld { group, up_to: first_left });
        }
    }
}
