//! Consumers: read a partition from its first record on, one fetch at a time. One that comes to another node asks first
//! where the part of the leader ends whose records it read last (KIP-320): never below where it is.

use std::time::Duration;

use bytes::Bytes;
use raftline_broker::payload::OutReply;
use raftline_proto::batch::{self, BatchHeader};
use raftline_proto::ids::{GroupId, NodeId, Offset, Term};
use raftline_proto::time::Monotonic;
use raftline_shard::types::{FetchError, OffsetQuery, Reply};

use super::{Around, Ask, Call, Wishes};

/// A consumer of one partition.
#[derive(Debug)]
pub struct Consumer {
    group: GroupId,
    next: Offset,
    leader: Option<NodeId>,
    /// The leader's term of the last record read.
    epoch: Option<Term>,
    /// Whom it may go on reading from without asking first.
    validated: Option<NodeId>,
    under_way: Option<UnderWay>,
    next_tag: u64,
    /// When to ask again.
    ask_at: Monotonic,
    /// Whether what it has not read yet may go.
    records: Lasting,
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    tag: u64,
    since: Monotonic,
    to: NodeId,
}

/// Whether a partition's records stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// For as long as a run goes.
    Stay,
    /// The oldest are deleted by an operator, or let go by retention. What goes is judged by the checkers.
    MayGo,
}

impl Consumer {
    /// A consumer that starts at `now`, at the partition's first offset.
    #[must_use]
    pub fn new(group: GroupId, now: Monotonic, records: Lasting) -> Self {
        Self {
            group,
            next: Offset::ZERO,
            leader: None,
            epoch: None,
            validated: None,
            under_way: None,
            next_tag: 0,
            ask_at: now,
            records,
        }
    }

    /// Which partition it reads.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The next offset it wants: everything below was read.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.next
    }

    pub(super) fn wake(&mut self, around: &mut Around<'_>, wishes: &mut Wishes) {
        if let Some(UnderWay { since, .. }) = self.under_way
            && since + around.patience + WAIT <= around.now
        {
            self.under_way = None;
            self.leader = None;
        }
        if self.under_way.is_none() && self.ask_at <= around.now {
            self.ask(around, wishes);
        }
        wishes.wake_at(if self.under_way.is_some() {
            around.now + around.patience + WAIT
        } else {
            self.ask_at
        });
    }

    fn ask(&mut self, around: &mut Around<'_>, wishes: &mut Wishes) {
        let to = around.node_or_any(self.leader);
        self.leader = Some(to);
        self.next_tag += 1;
        self.under_way = Some(UnderWay { tag: self.next_tag, since: around.now, to });
        if let Some(epoch) = self.epoch.filter(|_| self.validated != Some(to)) {
            let ask = Ask::Offset { group: self.group, query: OffsetQuery::EndOfTerm(epoch) };
            wishes.calls.push(Call { tag: self.next_tag, to, ask });
            return;
        }
        let bytes_max = around.chance.between(1, 16 << 10);
        let ask = Ask::Fetch {
            group: self.group,
            from: self.next,
            bytes_min: around.chance.between(1, 400),
            bytes_max,
            wait: around.chance.span(Duration::ZERO, WAIT),
        };
        wishes.calls.push(Call { tag: self.next_tag, to, ask });
    }

    pub(super) fn answered(
        &mut self,
        tag: u64,
        reply: Option<OutReply>,
        around: &mut Around<'_>,
        wishes: &mut Wishes,
    ) {
        let Some(UnderWay { to, .. }) = self.under_way.filter(|under_way| under_way.tag == tag) else {
            return;
        };
        self.under_way = None;
        self.ask_at = around.backoff();
        wishes.wake_at(self.ask_at);
        match reply {
            Some(OutReply::Fetched(fetched)) => self.read(&fetched.batches, wishes),
            Some(OutReply::Shard(Reply::Fetched(Ok(_)))) => {}
            Some(OutReply::EndOfTerm { found, start }) => {
                self.validated = Some(to);
                self.validate(found.map_or(start, |(_, end)| end), wishes);
            }
            Some(OutReply::Shard(Reply::Fetched(Err(error)) | Reply::Offset(Err(error)))) => {
                self.validated = None;
                self.refused(&error, wishes);
            }
            _ => self.leader = None,
        }
    }

    /// The part of the leader whose records it read last ends here: what lies above was lost, if it has read it.
    fn validate(&self, end: Offset, wishes: &mut Wishes) {
        if end < self.next {
            wishes.outrage = Some(format!(
                "a consumer of group {} at offset {} is told that its leader's part of the log ends at {end}",
                self.group, self.next
            ));
        }
    }

    fn read(&mut self, parts: &[Bytes], wishes: &mut Wishes) {
        for part in parts {
            let mut rest = part.clone();
            while let Some(next) = batch::next(&rest) {
                match next.and_then(|one| BatchHeader::decode(&one).map(|header| (one.len(), header))) {
                    Ok((length, header)) => {
                        self.next = self.next.max(header.next_offset());
                        let epoch = u64::try_from(header.leader_epoch).ok().map(Term);
                        self.epoch = self.epoch.max(epoch);
                        rest = rest.slice(length..);
                    }
                    Err(error) => {
                        wishes.outrage =
                            Some(format!("a consumer of group {} was served garbage: {error}", self.group));
                        return;
                    }
                }
            }
        }
    }

    fn refused(&mut self, error: &FetchError, wishes: &mut Wishes) {
        match error {
            FetchError::NotLeader { leader, .. } => self.leader = *leader,
            // A replica that cannot read its log is closed, and judged for that; another one leads soon.
            FetchError::UnknownGroup | FetchError::Busy | FetchError::Storage(_) | FetchError::NotYet => {
                self.leader = None
            }
            FetchError::OffsetOutOfRange { start_offset, .. }
                if self.records == Lasting::MayGo && *start_offset > self.next =>
            {
                // Nothing that it has read leads up to there.
                (self.next, self.epoch) = (*start_offset, None);
            }
            // It only asks from where it was led: an honest consumer must not be sent away.
            FetchError::OffsetOutOfRange { .. } | FetchError::UnknownTerm { .. } => {
                wishes.outrage = Some(format!(
                    "a consumer of group {} at offset {} is told {error:?}",
                    self.group, self.next
                ));
            }
        }
    }
}

/// The longest a fetch waits for records.
const WAIT: Duration = Duration::from_millis(200);
