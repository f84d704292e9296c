//! Connections and messages between nodes.

use std::time::Duration;

use bytes::BytesMut;
use raftline_broker::payload::{Payload, PeerBody, PeerMessage};
use raftline_proto::entry::decode_run;
use raftline_proto::ids::{BootId, GroupId, NodeId};
use raftline_raft::types::{AppendResult, Message};
use raftline_shard::types::Event;

use super::pulse::News;
use super::{Step, World};
use crate::sim::facts::{Fact, Life};
use crate::sim::marks::Mark;
use crate::sim::network::{Arrival, Fate, Flight};
use crate::sim::trace::{Place, mix};

impl World {
    /// A message left an executor.
    pub(super) fn sent(&mut self, life: Life, to: NodeId, message: PeerMessage, fate: Fate) {
        let PeerMessage { group, body } = &message;
        if let PeerBody::Raft { message: raft, .. } = body {
            self.counts.messages += 1;
            self.spoke(life, to, *group, raft, &fate);
        }
        let Fate::Arrives { at, flight, overtakes } = fate else { return };
        if at.len() > 1 {
            self.mark(Mark::Duplicated);
        }
        if overtakes {
            self.mark(Mark::Reordered);
        }
        let Some(boot) = self.nodes.get(&life.node).and_then(|node| node.process.as_ref()).map(|it| it.boot)
        else {
            return;
        };
        for (nth, at) in at.into_iter().enumerate() {
            let message = Box::new(message.clone());
            self.heap.push(at, Step::Arrive { flight, boot, message, nth });
        }
    }

    /// Shows the checkers what a message says, beside what the disk holds.
    fn spoke(&mut self, life: Life, to: NodeId, group: GroupId, message: &Message, fate: &Fate) {
        let word = match fate {
            Fate::Busy => "busy",
            Fate::Lost => "send lost",
            Fate::Arrives { .. } => "send",
        };
        self.trace(Place::at(life.node, group), word, digest(message) ^ mix(u64::from(to.0)), || {
            format!("to n{to} {message:?}")
        });
        match message {
            Message::Vote { .. }
            | Message::VoteReply { granted: true, .. }
            | Message::AppendReply { result: AppendResult::Matched { .. }, .. } => {
                let Some(node) = self.nodes.get(&life.node) else { return };
                let shards = self.plan.shards;
                match self.durable.on_disk(node, group, shards) {
                    Ok(disk) => self.judge.fact(&Fact::Spoke { life, group, to, message, disk: &disk }),
                    Err(reason) => self.judge.fact(&Fact::Failed { life, group, reason: &reason }),
                }
            }
            Message::VoteReply { granted: false, .. } => self.mark(Mark::VoteRefused),
            Message::PreVoteReply { granted: false, leader: Some(_), .. } => self.mark(Mark::PreVoteRefused),
            Message::AppendReply { result: AppendResult::Rejected { .. }, .. } => {
                self.mark(Mark::AppendRejected)
            }
            Message::TimeoutNow { .. } => self.mark(Mark::Transferred),
            Message::PreVote { .. }
            | Message::PreVoteReply { .. }
            | Message::Append { .. }
            | Message::SteppedDown { .. }
            | Message::Vouched { .. }
            | Message::Reset { .. } => {}
        }
    }

    /// A copy of a message reaches its node.
    pub(super) fn arrive(&mut self, flight: Flight, boot: BootId, message: PeerMessage, nth: usize) {
        match self.network.arrive(flight) {
            Arrival::Dead => return,
            Arrival::Stale => self.mark(Mark::StaleDelivered),
            Arrival::Good => {}
        }
        let (from, to) = (flight.from, flight.to);
        let PeerMessage { group, body } = message;
        match body {
            // Said by the node around the shard, which is not simulated.
            PeerBody::Leads(_) | PeerBody::Closed { .. } | PeerBody::Applied(_) => {}
            PeerBody::Alive(sign) => self.news(to, News::Sign(from, boot, sign)),
            PeerBody::Raft { message, entries } => {
                self.trace(
                    Place::at(to, group),
                    "arrive",
                    digest(&message) ^ mix(u64::from(from.0) + nth as u64),
                    || format!("from n{from} {message:?}"),
                );
                let mut bytes = BytesMut::new();
                entries.iter().for_each(|part| bytes.extend_from_slice(part));
                let bytes = bytes.freeze();
                let entries = match decode_run(&bytes) {
                    Ok(entries) => entries,
                    Err(error) => {
                        let reason = format!("node {from} sent entries that cannot be read: {error}");
                        let life = Life { node: from, start: 0 };
                        self.judge.fact(&Fact::Failed { life, group, reason: &reason });
                        return;
                    }
                };
                let payload = (!bytes.is_empty()).then_some(Payload::Entries(bytes));
                let shard = self.shard_of(group);
                self.deliver(to, shard, Event::Peer { from, group, message, entries, payload });
            }
        }
    }

    /// A process started: it dials everybody, and everybody who still holds a connection to its predecessor finds
    /// that it is dead.
    pub(super) fn connect_after_start(&mut self, id: NodeId) {
        for peer in self.ids().into_iter().filter(|peer| *peer != id) {
            self.dial_soon(id, peer, Duration::from_millis(5));
            if let Some(generation) = self.network.connection(peer, id) {
                let at = self.heap.now() + self.chance.span(Duration::ZERO, Duration::from_millis(5));
                self.network.hang_up(peer, id);
                self.heap.push(at, Step::Broken { from: peer, to: id, generation });
            }
        }
    }

    /// A process ended: its own connections are gone. Its peers notice at once if the machine lives to tell them.
    pub(super) fn disconnect_after_death(&mut self, id: NodeId, told: bool) {
        for peer in self.ids().into_iter().filter(|peer| *peer != id) {
            self.network.hang_up(id, peer);
            if let Some(generation) = self.network.connection(peer, id) {
                let (least, most) = if told { (1, 10) } else { (300, 3000) };
                let wait = self.chance.span(Duration::from_millis(least), Duration::from_millis(most));
                let at = self.heap.now() + wait;
                self.heap.push(at, Step::Broken { from: peer, to: id, generation });
            }
        }
    }

    /// A connection broke, and the node that dialled it notices.
    pub(super) fn broken(&mut self, from: NodeId, to: NodeId, generation: u64) {
        if self.network.connection(from, to) == Some(generation) {
            self.network.hang_up(from, to);
        }
        if self.network.connection(from, to).is_some() {
            return;
        }
        self.trace(Place::on(from), "disconnected", u64::from(to.0), || format!("from n{to}"));
        self.news(from, News::Disconnected(to));
        self.dial_soon(from, to, Duration::from_millis(20));
    }

    pub(super) fn dial_soon(&mut self, from: NodeId, to: NodeId, within: Duration) {
        if self.dialling.insert((from, to)) {
            let at = self.heap.now() + self.chance.span(Duration::from_micros(100), within);
            self.heap.push(at, Step::Dial(from, to));
        }
    }

    pub(super) fn dial(&mut self, from: NodeId, to: NodeId) {
        self.dialling.remove(&(from, to));
        let runs = |id: &NodeId| self.nodes.get(id).is_some_and(|node| node.process.is_some());
        if !runs(&from) || self.network.connection(from, to).is_some() {
            return;
        }
        let there = runs(&to);
        if there && self.network.dial(from, to) {
            self.trace(Place::on(from), "connected", u64::from(to.0), || format!("to n{to}"));
            self.news(from, News::Connected(to));
            return;
        }
        if !there && self.chance.coin() {
            self.news(from, News::Refused(to));
        }
        self.dial_soon(from, to, Duration::from_millis(120));
    }
}

/// Stands for a message in the trace's hash.
fn digest(message: &Message) -> u64 {
    let id = |id: raftline_proto::ids::EntryId| mix(id.term.0) ^ id.index.0;
    let (kind, term, rest) = match message {
        Message::PreVote { term, last } => (1, term, id(*last)),
        Message::PreVoteReply { term, granted, .. } => (2, term, u64::from(*granted)),
        Message::Vote { term, last, transfer } => (3, term, id(*last) ^ u64::from(*transfer)),
        Message::VoteReply { term, granted } => (4, term, u64::from(*granted)),
        Message::Append { term, previous, commit, round, .. } => {
            (5, term, id(*previous) ^ mix(commit.0) ^ round.0)
        }
        Message::AppendReply { term, result, round } => match result {
            AppendResult::Matched { durable, received, commit } => {
                (6, term, mix(durable.0) ^ mix(received.0 + 1) ^ commit.0 ^ round.0)
            }
            AppendResult::Rejected { previous, hint } => (7, term, mix(previous.0) ^ id(*hint)),
        },
        Message::TimeoutNow { term } => (8, term, 0),
        Message::SteppedDown { term } => (9, term, 0),
        Message::Vouched { term, entry } => (11, term, id(*entry)),
        Message::Reset { term, start, commit } => (10, term, id(start.previous) ^ mix(commit.0)),
    };
    mix(kind ^ mix(term.0 ^ mix(rest)))
}
