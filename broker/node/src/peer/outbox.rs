//! The way out: per peer two bounded lanes that shard threads put messages into without ever waiting, and the stream
//! that a connection takes them out of, a whole turn's worth at a time.

use crate::limits::{
    PEER_BATCH_BYTES, PEER_BULK_BYTES_MAX, PEER_CONTROL_BYTES_MAX, PEER_MESSAGE_OVERHEAD_BYTES,
};
use crate::payload::{PeerBody, PeerMessage, PeerSender, SendOutcome};
use parking_lot::Mutex;
use raftline_proto::ids::NodeId;
use raftline_raft::types::Message;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// What travels on which connection, so that a vote never waits behind megabytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Appends and log resets, in the order sent: a commit notice that overtook its entries would be rejected.
    Bulk,
    /// Votes, replies, signs of life.
    Control,
}

impl Class {
    const fn of(body: &PeerBody) -> Self {
        match body {
            PeerBody::Raft { message: Message::Append { .. } | Message::Reset { .. }, .. } => Self::Bulk,
            PeerBody::Raft { .. }
            | PeerBody::Alive(_)
            | PeerBody::Leads(_)
            | PeerBody::Closed { .. }
            | PeerBody::Applied(_) => Self::Control,
        }
    }
}

/// The lanes to one peer.
#[derive(Debug)]
pub(super) struct Lanes {
    bulk: Arc<Lane>,
    control: Arc<Lane>,
}

impl Lanes {
    pub(super) fn new() -> Self {
        let lane = |bytes_max| Arc::new(Lane { bytes_max, state: Mutex::default() });
        Self { bulk: lane(PEER_BULK_BYTES_MAX), control: lane(PEER_CONTROL_BYTES_MAX) }
    }

    pub(super) const fn lane(&self, class: Class) -> &Arc<Lane> {
        match class {
            Class::Bulk => &self.bulk,
            Class::Control => &self.control,
        }
    }
}

/// A bounded queue between shard threads and one connection.
#[derive(Debug)]
pub(super) struct Lane {
    bytes_max: u64,
    state: Mutex<LaneState>,
}

#[derive(Debug, Default)]
struct LaneState {
    /// Which connection may take messages out: an old one that still lingers gets nothing any more.
    connection: u64,
    /// Whether that connection was welcomed. Closed lanes take nothing in: what is queued for a peer that is away
    /// would be stale when it comes back.
    open: bool,
    queue: VecDeque<PeerMessage>,
    /// Invariant: the weight of all that is queued.
    bytes: u64,
    waker: Option<Waker>,
}

impl LaneState {
    fn clear(&mut self) -> Option<Waker> {
        self.queue = VecDeque::new();
        self.bytes = 0;
        self.open = false;
        self.waker.take()
    }
}

impl Lane {
    /// A new connection takes over; returns its number. The lane stays closed until [`Lane::open`].
    pub(super) fn attach(&self) -> u64 {
        let mut state = self.state.lock();
        let waker = state.clear();
        state.connection += 1;
        let connection = state.connection;
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        connection
    }

    /// The peer has welcomed the connection: messages flow.
    pub(super) fn open(&self, connection: u64) {
        let mut state = self.state.lock();
        if state.connection == connection {
            state.open = true;
        }
    }

    /// The connection is gone, and what was queued for it.
    pub(super) fn close(&self, connection: u64) {
        let mut state = self.state.lock();
        if state.connection == connection {
            let waker = state.clear();
            state.connection += 1;
            drop(state);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    fn push(&self, message: PeerMessage) -> SendOutcome {
        let weight = weight(&message);
        let mut state = self.state.lock();
        let full = state.bytes > 0 && state.bytes + weight > self.bytes_max;
        if !state.open || full {
            return SendOutcome::Busy;
        }
        state.bytes += weight;
        state.queue.push_back(message);
        SendOutcome::Sent
    }

    fn wake(&self) {
        let waker = self.state.lock().waker.take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Takes out what fits one batch, at least one message; `None` once another connection has taken over.
    pub(super) fn poll_batch(
        &self,
        connection: u64,
        context: &mut Context<'_>,
    ) -> Poll<Option<Vec<PeerMessage>>> {
        let mut state = self.state.lock();
        if state.connection != connection {
            return Poll::Ready(None);
        }
        if state.queue.is_empty() {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        while let Some(next) = state.queue.front().map(weight) {
            if !batch.is_empty() && batch_bytes + next > PEER_BATCH_BYTES {
                break;
            }
            batch_bytes += next;
            batch.extend(state.queue.pop_front());
        }
        state.bytes -= batch_bytes;
        if state.queue.is_empty() && state.queue.capacity() > QUEUE_KEPT {
            state.queue = VecDeque::new();
        }
        Poll::Ready(Some(batch))
    }
}

fn weight(message: &PeerMessage) -> u64 {
    message.entry_bytes() + PEER_MESSAGE_OVERHEAD_BYTES
}

/// A queue that grew past this in a burst is given back when it runs empty.
const QUEUE_KEPT: usize = 1024;

/// One shard thread's hand on all lanes.
#[derive(Debug)]
pub struct Outbox {
    lanes: Arc<BTreeMap<NodeId, Lanes>>,
    /// The lanes that got something in this turn.
    touched: Vec<(NodeId, Class)>,
}

impl Outbox {
    pub(super) const fn new(lanes: Arc<BTreeMap<NodeId, Lanes>>) -> Self {
        Self { lanes, touched: Vec::new() }
    }
}

impl PeerSender for Outbox {
    fn send(&mut self, to: NodeId, message: PeerMessage) -> SendOutcome {
        let class = Class::of(&message.body);
        let Some(lanes) = self.lanes.get(&to) else { return SendOutcome::Busy };
        let outcome = lanes.lane(class).push(message);
        if outcome == SendOutcome::Sent && !self.touched.contains(&(to, class)) {
            self.touched.push((to, class));
        }
        outcome
    }

    fn flush(&mut self) {
        for (peer, class) in self.touched.drain(..) {
            if let Some(lanes) = self.lanes.get(&peer) {
                lanes.lane(class).wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use raftline_proto::ids::{EntryId, GroupId, Index, Term};
    use raftline_raft::types::AckWanted;

    const PEER: NodeId = NodeId(2);

    fn append(entry_bytes: usize) -> PeerMessage {
        let message = Message::Append {
            term: Term(1),
            previous: EntryId::ZERO,
            commit: Index::ZERO,
            ack: AckWanted::Durable,
            round: raftline_raft::types::Round(0),
        };
        let entries = vec![Bytes::from(vec![0; entry_bytes])];
        PeerMessage { group: GroupId(1), body: PeerBody::Raft { message, entries } }
    }

    fn alive() -> PeerMessage {
        let condition = raftline_shard::pulse::Condition::default();
        let sign = raftline_shard::pulse::Sign { wall: raftline_proto::time::Timestamp(0), condition };
        PeerMessage { group: GroupId::COORDINATOR, body: PeerBody::Alive(sign) }
    }

    fn outbox() -> (Outbox, Arc<BTreeMap<NodeId, Lanes>>) {
        let lanes = Arc::new(BTreeMap::from([(PEER, Lanes::new())]));
        (Outbox::new(Arc::clone(&lanes)), lanes)
    }

    fn taken(lane: &Lane, connection: u64) -> Option<usize> {
        match lane.poll_batch(connection, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(batch)) => Some(batch.len()),
            Poll::Ready(None) => None,
            Poll::Pending => Some(0),
        }
    }

    #[test]
    fn nothing_is_queued_for_a_peer_that_is_away() {
        let (mut outbox, lanes) = outbox();
        assert_eq!(outbox.send(PEER, alive()), SendOutcome::Busy);
        assert_eq!(outbox.send(NodeId(9), alive()), SendOutcome::Busy);
        let lane = lanes[&PEER].lane(Class::Control);
        let first = lane.attach();
        assert_eq!(outbox.send(PEER, alive()), SendOutcome::Busy, "not welcomed yet");
        lane.open(first);
        assert_eq!(outbox.send(PEER, alive()), SendOutcome::Sent);
        let second = lane.attach();
        lane.open(second);
        assert_eq!(taken(lane, first), None, "the old connection ends");
        assert_eq!(taken(lane, second), Some(0), "and what it had is gone");
        lane.close(first);
        assert_eq!(outbox.send(PEER, alive()), SendOutcome::Sent, "a late close changes nothing");
        lane.close(second);
        assert_eq!(outbox.send(PEER, alive()), SendOutcome::Busy);
        assert_eq!(taken(lane, second), None);
    }

    #[test]
    fn a_turn_leaves_in_batches_and_the_lane_is_bounded() {
        let (mut outbox, lanes) = outbox();
        let lane = lanes[&PEER].lane(Class::Bulk);
        let connection = lane.attach();
        lane.open(connection);
        let quarter = usize::try_from(PEER_BATCH_BYTES / 4).unwrap();
        let mut sent = 0;
        while outbox.send(PEER, append(quarter)) == SendOutcome::Sent {
            sent += 1;
        }
        assert!(sent >= 8 && sent as u64 * (quarter as u64) <= PEER_BULK_BYTES_MAX, "{sent}");
        outbox.flush();
        let mut left = sent;
        while left > 0 {
            let batch = taken(lane, connection).unwrap();
            assert!((1..=3).contains(&batch), "three quarters and their overhead fit: {batch}");
            left -= batch;
        }
        assert_eq!(taken(lane, connection), Some(0));
        let huge = usize::try_from(PEER_BULK_BYTES_MAX * 2).unwrap();
        assert_eq!(outbox.send(PEER, append(huge)), SendOutcome::Sent, "an empty lane takes anything");
        assert_eq!(outbox.send(PEER, append(0)), SendOutcome::Busy);
    }

    #[test]
    fn votes_do_not_wait_behind_appends() {
        let (mut outbox, lanes) = outbox();
        for class in [Class::Bulk, Class::Control] {
            let lane = lanes[&PEER].lane(class);
            lane.open(lane.attach());
        }
        outbox.send(PEER, append(0));
        outbox.send(PEER, alive());
        for class in [Class::Bulk, Class::Control] {
            assert_eq!(taken(lanes[&PEER].lane(class), 1), Some(1));
        }
    }
}
