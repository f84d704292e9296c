//! Each node's pulse: beside its shards, as its own thread is in production.

use raftline_broker::payload::{PeerBody, PeerMessage};
use raftline_proto::ids::{BootId, GroupId, NodeId};
use raftline_proto::time::Monotonic;
use raftline_shard::pulse::{Beat, Pulse, Sign};
use raftline_shard::types::Event;
use raftline_storage::SimDisk;

use super::port::Port;
use super::{Step, World};
use crate::sim::facts::Life;
use crate::sim::marks::Mark;
use crate::sim::node::Unit;
use crate::sim::trace::{Place, mix};

/// What a pulse is told.
#[derive(Clone, Debug)]
pub enum News {
    /// A sign of life came.
    Sign(NodeId, BootId, Sign),
    /// A connection was made.
    Connected(NodeId),
    /// A connection broke.
    Disconnected(NodeId),
    /// Nothing listens there.
    Refused(NodeId),
}

impl World {
    /// The node that runs now hears something; one that is stopped hears it when it goes on.
    pub(super) fn news(&mut self, to: NodeId, news: News) {
        if let Some(life) = self.nodes.get(&to).and_then(|node| node.life()) {
            self.hear(life, news);
        }
    }

    pub(super) fn hear(&mut self, life: Life, news: News) {
        let now = self.heap.now();
        let Some(node) = self.nodes.get_mut(&life.node).filter(|node| node.life() == Some(life)) else {
            return;
        };
        if node.paused_until > now {
            let resumed = node.paused_until;
            self.heap.push(resumed, Step::News(life, Box::new(news)));
            return;
        }
        let clocks = node.clocks(now);
        let clock = clocks.monotonic;
        let Some(process) = &mut node.process else { return };
        let mut beats = Vec::new();
        let pulse = &mut process.pulse;
        match news {
            News::Sign(from, boot, sign) => pulse.heard(from, boot, sign, clocks, &mut beats),
            News::Connected(peer) => pulse.connected(peer, clock, &mut beats),
            News::Disconnected(peer) => pulse.disconnected(peer, clock),
            News::Refused(peer) => pulse.refused(peer, &mut beats),
        }
        self.carry_out(life, beats);
        self.plan_beat(life);
    }

    /// The pulse's time has come.
    pub(super) fn beat(&mut self, life: Life, at: Monotonic) {
        let now = self.heap.now();
        let Some(node) = self.nodes.get_mut(&life.node).filter(|node| node.life() == Some(life)) else {
            return;
        };
        if node.paused_until > now {
            let resumed = node.paused_until;
            self.heap.push(resumed, Step::Beat(life, at));
            return;
        }
        let clocks = node.clocks(now);
        let full = node.is_full;
        let Some(process) = &mut node.process else { return };
        if process.beat_at != Some(at) {
            return;
        }
        process.beat_at = None;
        let born = process.born;
        let local = |at: Monotonic| Monotonic(at.0.saturating_sub(born.0));
        let since = |unit: &Unit| unit.hangs_since(now).map(local);
        let busy: Vec<Option<Monotonic>> = process.shards.iter().map(since).collect();
        let mut beats = Vec::new();
        process.pulse.tick(clocks, &busy, full, &mut beats);
        self.carry_out(life, beats);
        self.plan_beat(life);
    }

    /// Plans the pulse's next beat.
    pub(super) fn plan_beat(&mut self, life: Life) {
        let Some(node) = self.nodes.get_mut(&life.node).filter(|node| node.life() == Some(life)) else {
            return;
        };
        let Some(due) = node.process.as_ref().map(|process| process.pulse.deadline()) else { return };
        let at = node.virtual_time(due).max(self.heap.now());
        let Some(process) = &mut node.process else { return };
        if process.beat_at.is_none_or(|planned| at < planned) {
            process.beat_at = Some(at);
            self.heap.push(at, Step::Beat(life, at));
        }
    }

    fn carry_out(&mut self, life: Life, beats: Vec<Beat>) {
        for beat in beats {
            match beat {
                Beat::Send { to, sign } => {
                    let message = PeerMessage { group: GroupId::COORDINATOR, body: PeerBody::Alive(sign) };
                    let now = self.heap.now();
                    let mut port = Port { from: life.node, now, network: &mut self.network, out: Vec::new() };
                    let _ = raftline_broker::executor::Outside::<SimDisk>::send(&mut port, to, message);
                    for one in port.out {
                        if let super::port::Out::Message(to, message, fate) = one {
                            self.sent(life, to, message, fate);
                        }
                    }
                }
                Beat::Tell { peer, change } => {
                    if peer == life.node {
                        self.mark(Mark::ShardStuck);
                    }
                    self.trace(Place::on(life.node), "liveness", mix(u64::from(peer.0)), || {
                        format!("peer {peer} {change:?}")
                    });
                    for shard in 0..self.shards() {
                        self.deliver(life.node, shard, Event::Liveness { peer, change: change.clone() });
                    }
                }
            }
        }
    }
}

/// The pulse of a new process.
pub fn new_pulse(config: &raftline_shard::ShardConfig) -> Pulse {
    let peers = config.peers.iter().copied();
    Pulse::new(config.node, config.shards, config.timings, peers, Monotonic::ZERO)
}
