//! Liveness of node pairs, kept by shard 0 for the whole node (DESIGN D7): one small message per pair and interval,
//! however many groups the pair shares.

use crate::config::Timings;
use crate::shard::Shard;
use crate::types::{Effect, LivenessChange, ShardAlarm};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use raftline_proto::ids::{BootId, GroupId, NodeId};
use raftline_proto::time::{Monotonic, Now};
use raftline_raft::types::Input;

/// What this node knows of its peers.
#[derive(Debug)]
pub(crate) struct Liveness {
    timings: Timings,
    peers: BTreeMap<NodeId, Peer>,
    next_alive: Monotonic,
    /// When a peer whose connection broke counts as down. Invariant: one item for each peer with a grace.
    graces: BTreeSet<(Monotonic, NodeId)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    /// The process last heard of.
    boot: Option<BootId>,
    /// When it was last heard of; `None` while it counts as down.
    heard: Option<Monotonic>,
    grace: Option<Monotonic>,
}

/// What was found out: to be told to every group that shares the peer.
pub(crate) type Change = (NodeId, LivenessChange);

impl Liveness {
    pub fn new(timings: Timings, peers: impl Iterator<Item = NodeId>, now: Monotonic) -> Self {
        let peers = peers.map(|node| (node, Peer::default())).collect();
        Self { timings, peers, next_alive: now, graces: BTreeSet::new() }
    }

    /// More nodes to keep in touch with; known ones stay as they are.
    pub fn learn(&mut self, nodes: impl Iterator<Item = NodeId>) {
        for node in nodes {
            self.peers.entry(node).or_default();
        }
    }

    /// The nodes to send signs of life to.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.keys().copied()
    }

    /// A sign of life came.
    pub fn alive(&mut self, from: NodeId, boot: BootId, now: Monotonic) -> Option<Change> {
        let peer = self.peers.get_mut(&from)?;
        let restarted = peer.boot.replace(boot).is_some_and(|known| known != boot);
        self.heard(from, now, restarted)
    }

    /// A connection to the peer was made, perhaps anew.
    pub fn connected(&mut self, to: NodeId, now: Monotonic) -> Option<Change> {
        self.heard(to, now, true)
    }

    fn heard(&mut self, node: NodeId, now: Monotonic, anew: bool) -> Option<Change> {
        let peer = self.peers.get_mut(&node)?;
        if let Some(grace) = peer.grace.take() {
            self.graces.remove(&(grace, node));
        }
        match peer.heard.replace(now) {
            None => Some((node, LivenessChange::Up)),
            Some(_) if anew => Some((node, LivenessChange::Reset)),
            Some(_) => None,
        }
    }

    /// A connection broke: the peer has a short while to be heard of again.
    pub fn disconnected(&mut self, from: NodeId, now: Monotonic) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.heard.is_some() && peer.grace.is_none() {
            let grace = now + self.timings.disconnect_grace;
            peer.grace = Some(grace);
            self.graces.insert((grace, from));
        }
    }

    /// The peer's host says that nothing listens there: its process is gone.
    pub fn refused(&mut self, by: NodeId) -> Option<Change> {
        let peer = self.peers.get_mut(&by)?;
        if let Some(grace) = peer.grace.take() {
            self.graces.remove(&(grace, by));
        }
        peer.heard.take().map(|_| (by, LivenessChange::Down))
    }

    /// When [`Liveness::tick`] is next due.
    pub fn deadline(&self) -> Option<Monotonic> {
        if self.peers.is_empty() {
            return None;
        }
        let grace = self.graces.first().map(|(grace, _)| *grace);
        Some(grace.map_or(self.next_alive, |grace| grace.min(self.next_alive)))
    }

    /// Looks for peers that fell silent. Returns them, and whether signs of life are to be sent now.
    pub fn tick(&mut self, now: Monotonic) -> (Vec<Change>, SendAlive) {
        let mut changes = Vec::new();
        while let Some((grace, node)) = self.graces.first().copied().filter(|(grace, _)| *grace <= now) {
            self.graces.remove(&(grace, node));
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.grace = None;
                if peer.heard.take().is_some() {
                    changes.push((node, LivenessChange::Down));
                }
            }
        }
        if now < self.next_alive {
            return (changes, SendAlive::No);
        }
        self.next_alive = now + self.timings.alive_interval;
        for (node, peer) in &mut self.peers {
            if peer.heard.is_some_and(|heard| now.since(heard) >= self.timings.alive_lapse) {
                peer.heard = None;
                if let Some(grace) = peer.grace.take() {
                    self.graces.remove(&(grace, *node));
                }
                changes.push((*node, LivenessChange::Down));
            }
        }
        (changes, SendAlive::Yes)
    }
}

impl Shard {
    /// Something was heard of a peer. Only shard 0 listens.
    pub(crate) fn hear<P>(
        &mut self,
        now: Now,
        effects: &mut Vec<Effect<P>>,
        listen: impl FnOnce(&mut Liveness) -> Option<Change>,
    ) {
        let Some(liveness) = &mut self.liveness else {
            let alarm = ShardAlarm::Unexpected("news of a peer's node on a shard other than 0");
            effects.push(Effect::Alarm { group: GroupId::COORDINATOR, alarm });
            return;
        };
        if let Some(change) = listen(liveness) {
            self.announce(now, change, effects);
        }
    }

    /// Shard 0 found something out: it tells the node's other shards, and its own groups.
    pub(crate) fn announce<P>(&mut self, now: Now, change: Change, effects: &mut Vec<Effect<P>>) {
        let (peer, what) = change;
        effects.push(Effect::Liveness { peer, change: what });
        self.follow_liveness(now, change, effects);
    }

    pub(crate) fn follow_liveness<P>(
        &mut self,
        now: Now,
        (node, change): Change,
        effects: &mut Vec<Effect<P>>,
    ) {
        let input = || match change {
            LivenessChange::Up => Input::PeerUp { node },
            LivenessChange::Down => Input::PeerDown { node },
            LivenessChange::Reset => Input::PeerReset { node },
        };
        match change {
            LivenessChange::Up | LivenessChange::Reset => self.alive.insert(node),
            LivenessChange::Down => self.alive.remove(&node),
        };
        let shared: Vec<GroupId> =
            self.groups.values().filter(|group| group.has_member(node)).map(|group| group.id).collect();
        for id in shared {
            self.touch(now, id, effects, |group, turn| group.step(input(), turn));
        }
    }
}

/// Whether signs of life are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendAlive {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    const PEER: NodeId = NodeId(2);

    fn at(ms: u64) -> Monotonic {
        Monotonic::ZERO + Duration::from_millis(ms)
    }

    fn liveness() -> Liveness {
        Liveness::new(Timings::default(), [PEER].into_iter(), at(0))
    }

    #[test]
    fn silence_brings_a_peer_down_and_a_sign_up_again() {
        let mut liveness = liveness();
        assert_eq!(liveness.alive(PEER, BootId(1), at(0)), Some((PEER, LivenessChange::Up)));
        assert_eq!(liveness.alive(PEER, BootId(1), at(500)), None);
        assert_eq!(liveness.tick(at(1400)), (Vec::new(), SendAlive::Yes));
        assert_eq!(liveness.tick(at(1450)), (Vec::new(), SendAlive::No));
        assert_eq!(liveness.tick(at(1500)).0, [(PEER, LivenessChange::Down)]);
        assert_eq!(liveness.tick(at(1600)).0, []);
        assert_eq!(liveness.alive(PEER, BootId(1), at(1700)), Some((PEER, LivenessChange::Up)));
    }

    #[test]
    fn a_restart_and_a_new_connection_reset() {
        let mut liveness = liveness();
        assert_eq!(liveness.connected(PEER, at(0)), Some((PEER, LivenessChange::Up)));
        assert_eq!(liveness.alive(PEER, BootId(1), at(1)), None);
        assert_eq!(liveness.alive(PEER, BootId(2), at(2)), Some((PEER, LivenessChange::Reset)));
        assert_eq!(liveness.connected(PEER, at(3)), Some((PEER, LivenessChange::Reset)));
    }

    #[test]
    fn a_broken_connection_has_a_grace_a_refused_one_none() {
        let mut liveness = liveness();
        liveness.connected(PEER, at(0));
        liveness.tick(at(0));
        liveness.disconnected(PEER, at(10));
        assert_eq!(liveness.deadline(), Some(at(100)));
        assert_eq!(liveness.alive(PEER, BootId(1), at(50)), None, "heard of in time");
        assert_eq!(liveness.tick(at(100)).0, []);
        liveness.disconnected(PEER, at(110));
        assert_eq!(liveness.tick(at(300)).0, []);
        assert_eq!(liveness.deadline(), Some(at(310)));
        assert_eq!(liveness.tick(at(310)), (alloc::vec![(PEER, LivenessChange::Down)], SendAlive::No));
        liveness.connected(PEER, at(320));
        assert_eq!(liveness.refused(PEER), Some((PEER, LivenessChange::Down)));
        assert_eq!(liveness.refused(PEER), None);
    }

    #[test]
    fn strangers_are_not_kept() {
        let mut liveness = liveness();
        assert_eq!(liveness.alive(NodeId(9), BootId(1), at(0)), None);
        assert_eq!(liveness.connected(NodeId(9), at(0)), None);
        assert_eq!(liveness.peers().collect::<Vec<_>>(), [PEER]);
    }
}
