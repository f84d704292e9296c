//! Deletion of records by request (Kafka's DeleteRecords): a command in the log moves the first offset that readers
//! are given, on every replica; whole segments below it go from the disk.

use crate::group::{Body, Group, Stage, Turn};
use crate::limits::{PARKED_DELETIONS_MAX, PENDING_ENTRIES_MAX};
use crate::parking::Parked;
use crate::partition::Partition;
use crate::types::{DeleteError, DeleteUpTo, Effect, Reply, RequestId};
use alloc::vec::Vec;
use raftline_proto::command::{Command, TrimReason};
use raftline_proto::entry::EntryBody;
use raftline_proto::ids::{EntryId, Index, NodeId, Offset, Term};
use raftline_proto::time::Monotonic;
use raftline_raft::types::ProposeError;

impl Group {
    /// A client wants the records below an offset gone.
    pub fn delete_records<P>(
        &mut self,
        request: RequestId,
        up_to: DeleteUpTo,
        deadline: Monotonic,
        turn: &mut Turn<'_, P>,
    ) {
        let offset = match self.judge_deletion(up_to, turn) {
            // Gone already, by a command that is committed or by retention.
            Ok(offset) if offset <= self.tail.start_offset() => {
                turn.effects.push(answer(request, Ok(self.tail.start_offset())));
                return;
            }
            Ok(offset) => offset,
            Err(why) => {
                turn.effects.push(answer(request, Err(why)));
                return;
            }
        };
        let trim = EntryBody::Command(Command::TrimTo { offset, reason: TrimReason::Asked });
        let proposed = self.snapshot_above_offset(offset, turn).and_then(|()| self.propose(trim, None, turn));
        match proposed {
            Ok(entry) => self.park_deletion(request, entry, deadline, turn),
            Err(ProposeError::NotLeader { leader }) => {
                let why = DeleteError::NotLeader { leader, term: self.term() };
                turn.effects.push(answer(request, Err(why)));
            }
            Err(ProposeError::Transferring { to: _ } | ProposeError::Busy | ProposeError::VotersDiffer) => {
                turn.effects.push(answer(request, Err(DeleteError::Busy)));
            }
        }
    }

    /// The offset up to which records are to go.
    fn judge_deletion<P>(&self, up_to: DeleteUpTo, turn: &Turn<'_, P>) -> Result<Offset, DeleteError> {
        let Body::Partition(partition) = &self.body else { return Err(DeleteError::UnknownGroup) };
        match self.standing() {
            Some(standing) if standing.leads() => {}
            Some(standing) => {
                return Err(DeleteError::NotLeader { leader: standing.leader(), term: standing.term() });
            }
            None => return Err(DeleteError::NotLeader { leader: None, term: Term::ZERO }),
        }
        if !partition.settings.cleanup.deletes() {
            return Err(DeleteError::CompactedOnly);
        }
        let high_watermark = self.tail.high_watermark();
        let offset = match up_to {
            DeleteUpTo::Offset(offset) => offset,
            DeleteUpTo::HighWatermark => high_watermark,
        };
        if offset > high_watermark {
            return Err(DeleteError::OffsetOutOfRange { asked: offset, high_watermark });
        }
        if turn.intake.draining {
            return Err(DeleteError::Stopping);
        }
        if partition.deletions.len() >= PARKED_DELETIONS_MAX
            || self.tail.pending().len() >= PENDING_ENTRIES_MAX
        {
            return Err(DeleteError::Busy);
        }
        Ok(offset)
    }

    fn park_deletion<P>(
        &mut self,
        request: RequestId,
        entry: EntryId,
        deadline: Monotonic,
        turn: &mut Turn<'_, P>,
    ) {
        let applied = self.tail.applied();
        let (Stage::Open(_), Body::Partition(partition)) = (&self.stage, &mut self.body) else {
            // The proposal closed the group, which answered all who waited then; this one did not wait yet.
            turn.effects.push(answer(request, Err(DeleteError::LeadershipLost { leader: None })));
            return;
        };
        if entry.index <= applied {
            // A leader whose only voter it is commits at once, as soon as that is durable.
            turn.effects.push(answer(request, Ok(self.tail.start_offset())));
        } else {
            partition.deletions.park(request, entry, deadline, ());
        }
    }

    /// Records below `offset` are deleted, by the command at `index`.
    pub fn trim<P>(&mut self, (offset, reason): (Offset, TrimReason), index: Index, turn: &mut Turn<'_, P>) {
        self.tail.trim_to(offset);
        if let Body::Partition(partition) = &mut self.body {
            partition.retention.reason = reason;
        }
        if let Stage::Open(_) = &self.stage {
            self.trim_files(index, turn);
            self.look_again(turn);
        }
    }

    /// Has segments removed that hold nothing but what was deleted, and no entry at or above `up_to`, which is committed.
    pub fn trim_files<P>(&mut self, up_to: Index, turn: &mut Turn<'_, P>) {
        if let (Some(below), Body::Partition(partition)) = (self.deleted_below(), &self.body) {
            let (group, reason, kept_from) = (self.id, partition.retention.reason, self.kept_from());
            turn.effects.push(Effect::Trim { group, below, reason, up_to, kept_from });
        }
    }

    /// Where the log should begin, if it begins earlier on the disk.
    pub fn deleted_below(&self) -> Option<Offset> {
        let start_offset = self.tail.start_offset();
        (start_offset > self.tail.start().offset).then_some(start_offset)
    }

    fn term(&self) -> Term {
        match &self.stage {
            Stage::Open(raft) => raft.term(),
            Stage::Opening(_) | Stage::Closed(_) => Term::ZERO,
        }
    }
}

impl Partition {
    /// Answers those that wait for `entry`, which is committed and carried out.
    pub fn acknowledge_deletions<P>(
        &mut self,
        entry: EntryId,
        (start_offset, leader): (Offset, Option<NodeId>),
        effects: &mut Vec<Effect<P>>,
    ) {
        while let Some(Parked { request, entry: awaited, .. }) = self.deletions.take_through(entry.index) {
            effects.push(match awaited == entry {
                true => answer(request, Ok(start_offset)),
                // Another entry took the place of the one that was waited for.
                false => answer(request, Err(DeleteError::LeadershipLost { leader })),
            });
        }
    }

    /// Answers those whose entry is at `from` or later.
    pub fn refuse_deletions_from<P>(&mut self, from: Index, why: &DeleteError, effects: &mut Vec<Effect<P>>) {
        for parked in self.deletions.take_from(from) {
            effects.push(answer(parked.request, Err(why.clone())));
        }
    }

    /// Answers those that waited too long.
    pub fn time_out_deletions<P>(&mut self, now: Monotonic, effects: &mut Vec<Effect<P>>) {
        while let Some(parked) = self.deletions.take_overdue(now) {
            effects.push(answer(parked.request, Err(DeleteError::TimedOut)));
        }
    }
}

/// The answer to a deletion.
pub(crate) fn answer<P>(request: RequestId, outcome: Result<Offset, DeleteError>) -> Effect<P> {
    Effect::Reply { request, reply: Reply::RecordsDeleted(outcome) }
}
