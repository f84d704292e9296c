//! Effects that read a group's log: for followers, for consumers.

use raftline_proto::batch::BatchHeader;
use raftline_proto::ids::{GroupId, Index, NodeId, Offset};
use raftline_proto::time::Monotonic;
use raftline_raft::types::{AppendResult, Message, ReplicateOutcome};
use raftline_shard::types::{Event, FetchError, FindBy, Reply, RequestId};
use raftline_storage::{BatchesRead, Disk, EntriesRead, Log, ReadError, Suspect};

use super::{Executor, Group, Outside};
use crate::limits;
use crate::payload::{FetchedBatches, OutReply, Payload, PeerBody, PeerMessage, SendOutcome};

/// The fields of an [`raftline_shard::types::Effect::Replicate`].
pub(super) struct Replicate {
    pub(super) group: GroupId,
    pub(super) to: NodeId,
    pub(super) from: Index,
    pub(super) up_to: Index,
    pub(super) bytes_max: u64,
    pub(super) message: Message,
}

/// The fields of an [`raftline_shard::types::Effect::Read`].
pub(super) struct Read {
    pub(super) request: RequestId,
    pub(super) group: GroupId,
    pub(super) from: Offset,
    pub(super) up_to: Offset,
    pub(super) bytes_min: u64,
    pub(super) bytes_max: u64,
    pub(super) force: bool,
    pub(super) deadline: Monotonic,
    pub(super) start_offset: Offset,
}

impl<D: Disk> Executor<D> {
    /// Sends entries to a follower, as they stand in the log.
    pub(super) fn replicate(
        &mut self,
        order: Replicate,
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
    ) {
        let Replicate { group, to, from, up_to, bytes_max, message } = order;
        let Message::Append { term, .. } = message else {
            panic!("entries go out with an append: {message:?}")
        };
        self.write(group);
        let answer =
            |up_to, bytes, outcome| Event::Replicated { group, to, term, from, up_to, bytes, outcome };
        let Some(open) = self.touch(group).filter(|open| !open.refused) else {
            // What should be sent may not be in the log. The answer to the refused append comes before any retry.
            answers.push(answer(from, 0, ReplicateOutcome::Busy));
            return;
        };
        let read = if from == up_to {
            EntriesRead { up_to, ..EntriesRead::default() }
        } else {
            match open.log.read_entries(from, up_to, bytes_max) {
                Ok(read) => read,
                Err(ReadError::Trimmed { .. }) => {
                    answers.push(answer(from, 0, ReplicateOutcome::Trimmed));
                    return;
                }
                Err(error) => {
                    answers.push(answer(from, 0, ReplicateOutcome::Busy));
                    self.read_failed(group, &error, outside, answers);
                    return;
                }
            }
        };
        let EntriesRead { parts, up_to, bytes, failed } = read;
        let body = PeerBody::Raft { message, entries: parts };
        answers.push(match outside.send(to, PeerMessage { group, body }) {
            SendOutcome::Sent => answer(up_to, bytes, ReplicateOutcome::Sent),
            SendOutcome::Busy => answer(from, 0, ReplicateOutcome::Busy),
        });
        if let Some(error) = failed {
            self.read_failed(group, &error, outside, answers);
        }
    }

    /// Sends a message without entries. One that vouches for entries leaves only once they are in the log: a follower
    /// says "held in memory" in the turn in which they came, and a produce may be acknowledged for that.
    pub(super) fn say(
        &mut self,
        group: GroupId,
        to: NodeId,
        message: Message,
        outside: &mut impl Outside<D>,
    ) {
        if let Message::AppendReply { result: AppendResult::Matched { .. }, .. } = message {
            self.write(group);
            if self.groups.get(&group).is_none_or(|open| open.refused) {
                // What it vouches for is not there. The leader asks again; by then the shard knows.
                return;
            }
        }
        let body = PeerBody::Raft { message, entries: Vec::new() };
        // Refused is as good as lost on the way, which raft copes with.
        let _ = outside.send(to, PeerMessage { group, body });
    }

    /// Answers a fetch, or says that there is too little yet.
    pub(super) fn read(
        &mut self,
        order: &Read,
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
    ) {
        let &Read { request, group, from, up_to, bytes_min, bytes_max, force, deadline, start_offset } =
            order;
        self.write(group);
        // Clients that take their answers slowly hold what was read for them: then everybody gets a batch at a time.
        let is_much = self.disk.bytes_held() >= limits::READ_BYTES_HELD_MAX;
        let bytes_max = if is_much { bytes_max.min(1) } else { bytes_max };
        let read = match self.touched(group).map(|open| open.log.read_batches(from, up_to, bytes_max)) {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                let why = why_not_read(&error, from, up_to);
                outside.reply(request, OutReply::Shard(Reply::Fetched(Err(why))));
                self.read_failed(group, &error, outside, answers);
                return;
            }
            Err(why) => {
                outside.reply(request, OutReply::Shard(Reply::Fetched(Err(why))));
                return;
            }
        };
        let may_wait = !force && !is_much && read.failed.is_none();
        if may_wait && read.bytes < bytes_min && reaches(&read, up_to) {
            let want = (from, up_to, bytes_min, bytes_max);
            answers.push(read_short(request, group, want, deadline, read.bytes));
            return;
        }
        let BatchesRead { batches, bytes: _, failed } = read;
        let fetched = FetchedBatches { batches, start_offset, high_watermark: up_to };
        outside.reply(request, OutReply::Fetched(fetched));
        if let Some(error) = failed {
            self.read_failed(group, &error, outside, answers);
        }
    }

    /// Has a log look at a place where a scrub could not go on.
    pub fn examine(
        &mut self,
        suspect: Suspect,
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
    ) {
        let Suspect { group, sequence, at } = suspect;
        if let Some(open) = self.groups.get(&group)
            && let Err(error) = open.log.examine(sequence, at)
        {
            self.read_failed(group, &error, outside, answers);
        }
    }

    /// What could not be read. A log that has lost bytes is closed, and its replica with it: if it led, a sound one takes
    /// over, and whoever asked finds the bytes there.
    fn read_failed(
        &mut self,
        group: GroupId,
        error: &ReadError,
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
    ) {
        if error.is_damage() {
            self.fail(group, error.to_string(), outside, answers);
        } else if !matches!(error, ReadError::Trimmed { .. }) {
            tracing::warn!(partition = (self.names)(group), %error, "entries could not be read now");
        }
    }

    /// Answers a query for an offset that only the log knows.
    pub(super) fn find_offset(
        &mut self,
        request: RequestId,
        group: GroupId,
        by: FindBy,
        (from, up_to): (Offset, Offset),
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
    ) {
        self.write(group);
        let found = self.touched(group).map(|open| {
            // Looks from wherever the log starts now: retention cannot take away what it asks for.
            let at_time = |found| OutReply::FoundOffset { found, high_watermark: up_to };
            match by {
                FindBy::AtOrAfter(timestamp) => open.log.offset_at_from(timestamp, from, up_to).map(at_time),
                FindBy::MaxTimestamp => open.log.newest_from(from, up_to).map(at_time),
                FindBy::EndOfTerm(term) => {
                    let start = open.log.start().1.max(from);
                    open.log.end_of_term(term, up_to).map(|found| OutReply::EndOfTerm { found, start })
                }
            }
        });
        let refuse = |why| OutReply::Shard(Reply::Offset(Err(why)));
        match found {
            Ok(Ok(reply)) => outside.reply(request, reply),
            Ok(Err(error)) => {
                outside.reply(request, refuse(FetchError::Storage(error.to_string())));
                self.read_failed(group, &error, outside, answers);
            }
            Err(why) => outside.reply(request, refuse(why)),
        }
    }

    /// A reply with what only the log knows of it.
    pub(super) fn completed(&self, reply: Reply) -> OutReply {
        match reply {
            Reply::Described(Some(description)) => {
                let log_bytes = self.log(description.group).map_or(0, Log::bytes);
                OutReply::Described { description: Box::new(description), log_bytes }
            }
            reply => OutReply::Shard(reply),
        }
    }

    fn touched(&mut self, group: GroupId) -> Result<&mut Group<D>, FetchError> {
        self.touch(group)
            .ok_or_else(|| FetchError::Storage(format!("the replica of group {group} is not open")))
    }
}

/// What a consumer is told. The shard let the read pass by the start that it knew; retention may have moved it since,
/// and the news is on its way to the shard.
fn why_not_read(error: &ReadError, asked: Offset, high_watermark: Offset) -> FetchError {
    match *error {
        ReadError::Trimmed { previous: _, offset } => {
            FetchError::OffsetOutOfRange { asked, start_offset: offset, high_watermark }
        }
        ReadError::Io { .. } | ReadError::Unreadable { .. } | ReadError::Corrupt { .. } => {
            FetchError::Storage(error.to_string())
        }
    }
}

/// Whether a read got everything below `up_to`. If not, it ended because the next batch would not fit: then waiting
/// for more is useless, however little it is.
fn reaches(read: &BatchesRead, up_to: Offset) -> bool {
    let Some(last) = read.batches.last() else { return true };
    BatchHeader::decode(last).is_ok_and(|header| header.next_offset() >= up_to)
}

fn read_short(
    request: RequestId,
    group: GroupId,
    (from, up_to, bytes_min, bytes_max): (Offset, Offset, u64, u64),
    deadline: Monotonic,
    bytes: u64,
) -> Event<Payload> {
    Event::ReadShort { request, group, from, up_to, bytes_min, bytes_max, deadline, bytes }
}
