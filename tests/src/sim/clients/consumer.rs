//! Consumers: read a partition from its first record on, one fetch at a time.

use std::time::Duration;

use bytes::Bytes;
use raftline_broker::payload::OutReply;
use raftline_proto::batch::{self, BatchHeader};
use raftline_proto::ids::{GroupId, NodeId, Offset};
use raftline_proto::time::Monotonic;
use raftline_shard::types::{FetchError, Reply};

use super::{Around, Ask, Call, Wishes};

/// A consumer of one partition.
#[derive(Debug)]
pub struct Consumer {
    group: GroupId,
    next: Offset,
    leader: Option<NodeId>,
    under_way: Option<(u64, Monotonic)>,
    next_tag: u64,
    /// When to ask again.
    ask_at: Monotonic,
    /// Whether what it has not read yet may go.
    records: Lasting,
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
        Self { group, next: Offset::ZERO, leader: None, under_way: None, next_tag: 0, ask_at: now, records }
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
        if let Some((_, since)) = self.under_way
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
        self.under_way = Some((self.next_tag, around.now));
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
        if self.under_way.is_none_or(|(asked, _)| asked != tag) {
            return;
        }
        self.under_way = None;
        self.ask_at = around.backoff();
        wishes.wake_at(self.ask_at);
        match reply {
            Some(OutReply::Fetched(fetched)) => self.read(&fetched.batches, wishes),
            Some(OutReply::Shard(Reply::Fetched(Ok(_)))) => {}
            Some(OutReply::Shard(Reply::Fetched(Err(error)))) => self.refused(&error, wishes),
            _ => self.leader = None,
        }
    }

    fn read(&mut self, parts: &[Bytes], wishes: &mut Wishes) {
        for part in parts {
            let mut rest = part.clone();
            while let Some(next) = batch::next(&rest) {
                match next.and_then(|one| BatchHeader::decode(&one).map(|header| (one.len(), header))) {
                    Ok((length, header)) => {
                        self.next = self.next.max(header.next_offset());
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
            FetchError::UnknownGroup | FetchError::Busy => self.leader = None,
            FetchError::OffsetOutOfRange { start_offset, .. }
                if self.records == Lasting::MayGo && *start_offset > self.next =>
            {
                self.next = *start_offset;
            }
            // It only asks from where it was led: an honest consumer must not be sent away.
            FetchError::OffsetOutOfRange { .. } | FetchError::Storage(_) => {
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
