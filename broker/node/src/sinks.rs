//! Where the answers to requests go that the shards hold: beside the shards, so that somebody is answered even if the shard
//! that holds his request does not go on.

use crate::handle::ReplySink;
use crate::payload::{OutReply, Payload};
use parking_lot::Mutex;
use raftline_proto::ids::Term;
use raftline_shard::types::{
    CoordinatorError, DeleteError, Event, FetchError, ProduceError, Reply, RequestId,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// The sinks of all shards.
#[derive(Clone, Debug)]
pub(crate) struct Sinks(Arc<[ShardSinks]>);

#[derive(Debug, Default)]
struct ShardSinks {
    waiting: Mutex<HashMap<u64, (ReplySink, Kind)>>,
    /// Set before what waits is answered, and read under the lock: nothing is parked behind that.
    stuck: AtomicBool,
    /// Rung when the shard gets stuck.
    bell: Notify,
}

/// What kind of answer a request is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Produce,
    Fetch,
    Offset,
    Delete,
    Coordinate,
    Describe,
    Transfer,
}

impl Kind {
    /// Of an event that is a request.
    pub(crate) fn of(event: &Event<Payload>) -> Option<Self> {
        match event {
            Event::Produce { .. } => Some(Self::Produce),
            Event::Fetch { .. } => Some(Self::Fetch),
            Event::ListOffset { .. } => Some(Self::Offset),
            Event::DeleteRecords { .. } => Some(Self::Delete),
            Event::Coordinate { .. } => Some(Self::Coordinate),
            Event::Describe { .. } => Some(Self::Describe),
            Event::Transfer { .. } => Some(Self::Transfer),
            _ => None,
        }
    }

    /// The answer where the shard does not go on: what was asked to be written may be written yet.
    fn refusal(self) -> OutReply {
        let not_leader = || FetchError::NotLeader { leader: None, term: Term::ZERO };
        OutReply::Shard(match self {
            Self::Produce => Reply::Produced(Err(ProduceError::LeadershipLost { leader: None })),
            Self::Fetch => Reply::Fetched(Err(not_leader())),
            Self::Offset => Reply::Offset(Err(not_leader())),
            Self::Delete => Reply::RecordsDeleted(Err(DeleteError::LeadershipLost { leader: None })),
            Self::Coordinate => Reply::Coordinated(Err(CoordinatorError::OutcomeUnknown)),
            Self::Describe => Reply::Described(None),
            Self::Transfer => Reply::Transferring(0),
        })
    }
}

impl Sinks {
    pub(crate) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| ShardSinks::default()).collect())
    }

    /// Keeps a sink until its answer. One for a shard that does not go on is answered at once: `false`.
    pub(crate) fn park(&self, shard: usize, request: RequestId, sink: ReplySink, kind: Kind) -> bool {
        let sinks = &self.0[shard];
        let mut waiting = sinks.waiting.lock();
        if sinks.stuck.load(Ordering::Acquire) {
            drop(waiting);
            sink.send(kind.refusal());
            return false;
        }
        waiting.insert(request.0, (sink, kind));
        true
    }

    /// Takes the sink of an answer; `None` if it was answered for a shard that did not go on.
    pub(crate) fn take(&self, shard: usize, request: RequestId) -> Option<ReplySink> {
        self.0[shard].waiting.lock().remove(&request.0).map(|(sink, _)| sink)
    }

    /// These shards do not go on, the others do: whoever waits for one that does not is answered.
    pub(crate) fn set_stuck(&self, stuck: &[u32]) {
        for (number, sinks) in (0_u32..).zip(self.0.iter()) {
            let is_stuck = stuck.contains(&number);
            if !sinks.stuck.swap(is_stuck, Ordering::AcqRel) && is_stuck {
                sinks.bell.notify_waiters();
                let waiting = std::mem::take(&mut *sinks.waiting.lock());
                for (sink, kind) in waiting.into_values() {
                    sink.send(kind.refusal());
                }
            }
        }
    }

    /// Whether a shard does not go on.
    pub(crate) fn is_stuck(&self, shard: usize) -> bool {
        self.0[shard].stuck.load(Ordering::Acquire)
    }

    /// Waits until a shard does not go on.
    pub(crate) async fn until_stuck(&self, shard: usize) {
        let sinks = &self.0[shard];
        loop {
            let rung = sinks.bell.notified();
            if sinks.stuck.load(Ordering::Acquire) {
                return;
            }
            rung.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    const FIRST: RequestId = RequestId(1);

    fn lost(reply: OutReply) -> bool {
        let lost = ProduceError::LeadershipLost { leader: None };
        matches!(reply, OutReply::Shard(Reply::Produced(Err(found))) if found == lost)
    }

    #[tokio::test]
    async fn who_waits_for_a_shard_that_does_not_go_on_is_answered() {
        let sinks = Sinks::new(2);
        let (sender, receiver) = oneshot::channel();
        assert!(sinks.park(1, FIRST, ReplySink::One(sender), Kind::Produce));
        let (sender, other) = oneshot::channel();
        assert!(sinks.park(0, RequestId(2), ReplySink::One(sender), Kind::Produce));
        let ((), ()) = tokio::join!(sinks.until_stuck(1), async { sinks.set_stuck(&[1]) });
        assert!(lost(receiver.await.unwrap()));
        assert!(sinks.take(1, FIRST).is_none(), "the shard's own answer comes too late");
        let (sender, receiver) = oneshot::channel();
        assert!(!sinks.park(1, RequestId(3), ReplySink::One(sender), Kind::Produce));
        assert!(lost(receiver.await.unwrap()), "at once");
        assert!(sinks.take(0, RequestId(2)).is_some(), "the other shard's");
        drop(other);

        sinks.set_stuck(&[]);
        let (sender, receiver) = oneshot::channel();
        assert!(sinks.park(1, RequestId(4), ReplySink::One(sender), Kind::Fetch));
        let sink = sinks.take(1, RequestId(4)).expect("it goes on");
        sink.send(OutReply::Shard(Reply::Transferring(7)));
        assert!(matches!(receiver.await.unwrap(), OutReply::Shard(Reply::Transferring(7))));
    }
}
