//! An operator who deletes a partition's oldest records now and then.

use std::time::Duration;

use raftline_broker::payload::OutReply;
use raftline_proto::ids::{GroupId, NodeId, Offset};
use raftline_shard::types::{DeleteError, DeleteUpTo, Reply};

use super::{Around, Ask, Call, Wishes};

/// Deletes from one partition.
#[derive(Debug)]
pub struct Eraser {
    group: GroupId,
    pause: Duration,
    leader: Option<NodeId>,
    next_tag: u64,
    /// The first offset left, as last told.
    start: Offset,
}

impl Eraser {
    /// One that deletes every `pause` or so.
    #[must_use]
    pub fn new(group: GroupId, pause: Duration) -> Self {
        Self { group, pause, leader: None, next_tag: 0, start: Offset::ZERO }
    }

    pub(super) fn wake(&mut self, around: &mut Around<'_>, wishes: &mut Wishes) {
        if around.calm {
            return;
        }
        let up_to = match around.chance.between(0, 3) {
            0 => DeleteUpTo::HighWatermark,
            _ => DeleteUpTo::Offset(self.start + around.chance.between(0, 80)),
        };
        self.next_tag += 1;
        let to = around.node_or_any(self.leader);
        let ask = Ask::Delete { group: self.group, up_to };
        wishes.calls.push(Call { tag: self.next_tag, to, ask });
        wishes.wake_at(around.now + around.chance.around(self.pause));
    }

    pub(super) fn answered(&mut self, reply: Option<OutReply>) {
        self.leader = match reply {
            Some(OutReply::Shard(Reply::RecordsDeleted(Ok(start)))) => {
                self.start = self.start.max(start);
                self.leader
            }
            Some(OutReply::Shard(Reply::RecordsDeleted(Err(error)))) => match error {
                DeleteError::NotLeader { leader, .. } | DeleteError::LeadershipLost { leader } => leader,
                DeleteError::OffsetOutOfRange { .. } => self.leader,
                DeleteError::UnknownGroup
                | DeleteError::CompactedOnly
                | DeleteError::TimedOut
                | DeleteError::Busy
                | DeleteError::Stopping => None,
            },
            _ => None,
        };
    }
}
