//! The pulse of a node: what keeps node pairs informed that they live (DESIGN D7). One small message per pair and interval,
//! however many groups the pair shares.
//!
//! It beats beside the shards, not on one of them: a shard whose thread or disk hangs must not keep the others from being
//! heard, nor be covered by their signs of life. Each sign says which of the sender's shards do not go on; whoever hears it
//! lets those shards' groups look for other leaders, and no others.

use crate::config::Timings;
use crate::types::LivenessChange;
use crate::wall::{self, WallClock};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use raftline_proto::ids::{BootId, GroupId, NodeId};
use raftline_proto::time::{Monotonic, Now, Timestamp};

/// What a node says of itself with each sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    /// The sender's wall clock.
    pub wall: Timestamp,
    /// How the sender is.
    pub condition: Condition,
}

/// How a node is, as far as others have to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// How many shards it has: group `g` is on shard `g % shards`. Zero if unknown.
    pub shards: u32,
    /// Those that do not go on: their thread or their disk hangs. Ascending.
    pub stuck: Vec<u32>,
    /// Whether its disk is so full that it takes no records.
    pub full: bool,
    /// Whether its wall clock cannot be trusted: it lets no record go by age.
    pub clock_off: bool,
    /// How many replicas it can hold. Zero if unknown.
    pub replicas_max: u32,
}

impl Condition {
    /// Whether the replica of a group cannot be counted on although its node answers.
    #[must_use]
    pub fn is_stuck(&self, group: GroupId) -> bool {
        let shard = group.get().checked_rem(u64::from(self.shards));
        shard.is_some_and(|shard| self.stuck.iter().any(|stuck| u64::from(*stuck) == shard))
    }
}

/// What the pulse wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Send a sign of life.
    Send {
        /// To whom.
        to: NodeId,
        /// What it says.
        sign: Sign,
    },
    /// Tell all shards of this node.
    Tell {
        /// Of which peer.
        peer: NodeId,
        /// What was found out.
        change: LivenessChange,
    },
}

/// What this node knows of its peers, and when it tells them that it lives.
#[derive(Debug)]
pub struct Pulse {
    own: NodeId,
    shards: u32,
    replicas_max: u32,
    timings: Timings,
    peers: BTreeMap<NodeId, Peer>,
    /// How this node is, as last said.
    condition: Condition,
    wall: WallClock,
    next_beat: Monotonic,
    /// Since when it has beaten in time: before that, nothing here may have had a core.
    awake_since: Monotonic,
    /// When a peer whose connection broke counts as down. Invariant: one item for each peer with a grace.
    graces: BTreeSet<(Monotonic, NodeId)>,
}

#[derive(Clone, Debug, Default)]
struct Peer {
    /// The process last heard of.
    boot: Option<BootId>,
    /// When it was last heard of; `None` while it counts as down.
    heard: Option<Monotonic>,
    grace: Option<Monotonic>,
    condition: Condition,
    /// How far its wall clock was from this node's monotonic one when it was last heard, in milliseconds: a jump of this
    /// node's own wall clock does not change that.
    wall: Option<i64>,
}

impl Pulse {
    /// The pulse of a node with so many shards, before it has heard of anybody.
    pub fn new(
        own: NodeId,
        shards: u32,
        timings: Timings,
        peers: impl IntoIterator<Item = NodeId>,
        now: Monotonic,
    ) -> Self {
        let mut pulse = Self {
            own,
            shards,
            replicas_max: 0,
            timings,
            peers: BTreeMap::new(),
            condition: Condition { shards, ..Condition::default() },
            wall: WallClock::default(),
            next_beat: now,
            awake_since: now,
            graces: BTreeSet::new(),
        };
        pulse.learn(peers);
        pulse
    }

    /// Says how many replicas this node can hold.
    #[must_use]
    pub fn holding(self, replicas_max: u32) -> Self {
        Self { replicas_max, ..self }
    }

    /// Whoever looks after this node has set its wall clock right.
    pub fn trust_clock(&mut self, now: Now) {
        self.wall.trust(now);
    }

    /// More nodes to keep in touch with; known ones stay as they are.
    pub fn learn(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        for node in nodes.into_iter().filter(|node| *node != self.own) {
            self.peers.entry(node).or_default();
        }
    }

    /// A sign of life came at `now`.
    pub fn heard(&mut self, from: NodeId, boot: BootId, sign: Sign, now: Now, beats: &mut Vec<Beat>) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let restarted = peer.boot.replace(boot).is_some_and(|known| known != boot);
        let changed = peer.condition != sign.condition;
        peer.condition = sign.condition;
        peer.wall = Some(wall::distance(Now { wall: sign.wall, ..now }));
        if changed {
            // First of all: what comes up with a stuck shard is not up for that shard's groups.
            let change = LivenessChange::Condition(peer.condition.clone());
            beats.push(Beat::Tell { peer: from, change });
        }
        self.answers(from, now.monotonic, restarted, beats);
    }

    /// A connection to the peer was made, perhaps anew.
    pub fn connected(&mut self, to: NodeId, now: Monotonic, beats: &mut Vec<Beat>) {
        self.answers(to, now, true, beats);
    }

    fn answers(&mut self, node: NodeId, now: Monotonic, anew: bool, beats: &mut Vec<Beat>) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if let Some(grace) = peer.grace.take() {
            self.graces.remove(&(grace, node));
        }
        match peer.heard.replace(now) {
            None => beats.push(Beat::Tell { peer: node, change: LivenessChange::Up }),
            Some(_) if anew => beats.push(Beat::Tell { peer: node, change: LivenessChange::Reset }),
            Some(_) => {}
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
    pub fn refused(&mut self, by: NodeId, beats: &mut Vec<Beat>) {
        let Some(peer) = self.peers.get_mut(&by) else { return };
        if let Some(grace) = peer.grace.take() {
            self.graces.remove(&(grace, by));
        }
        if peer.heard.take().is_some() {
            beats.push(Beat::Tell { peer: by, change: LivenessChange::Down });
        }
    }

    /// When [`Pulse::tick`] is next due.
    #[must_use]
    pub fn deadline(&self) -> Monotonic {
        let grace = self.graces.first().map(|(grace, _)| *grace);
        grace.map_or(self.next_beat, |grace| grace.min(self.next_beat))
    }

    /// Looks for peers that fell silent, and sends signs of life when they are due. `busy` says for each shard since when it
    /// has been at its present turn, or its sync in flight, whichever began first; `full`, whether the disk takes no records.
    pub fn tick(&mut self, now: Now, busy: &[Option<Monotonic>], full: bool, beats: &mut Vec<Beat>) {
        let Now { monotonic, wall } = now;
        let late = monotonic.since(self.next_beat);
        if late >= self.timings.alive_interval {
            // Nobody listened here meanwhile, be it that the process was stopped or had no core: that is not the peers'
            // silence.
            self.excuse(late, monotonic);
            self.awake_since = monotonic;
        }
        while let Some((grace, node)) = self.graces.first().copied().filter(|(grace, _)| *grace <= monotonic)
        {
            self.graces.remove(&(grace, node));
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.grace = None;
                if peer.heard.take().is_some() {
                    beats.push(Beat::Tell { peer: node, change: LivenessChange::Down });
                }
            }
        }
        if monotonic < self.next_beat {
            return;
        }
        // Alone it only looks at its own clock and shards.
        let beats_apart = if self.peers.is_empty() { LONELY_INTERVALS } else { 1 };
        self.next_beat = monotonic + self.timings.alive_interval * beats_apart;
        for (node, peer) in &mut self.peers {
            if peer.heard.is_some_and(|heard| monotonic.since(heard) >= self.timings.alive_lapse) {
                peer.heard = None;
                if let Some(grace) = peer.grace.take() {
                    self.graces.remove(&(grace, *node));
                }
                beats.push(Beat::Tell { peer: *node, change: LivenessChange::Down });
            }
        }
        let distance = wall::distance(now);
        let answering = self.peers.values().filter(|peer| peer.heard.is_some());
        let ahead: Vec<i64> =
            answering.filter_map(|peer| Some(peer.wall?.saturating_sub(distance))).collect();
        self.wall.look(now, &ahead, &self.timings);
        let clock_off = self.wall.is_doubted();
        let stuck = self.stuck(monotonic, busy);
        let (shards, replicas_max) = (self.shards, self.replicas_max);
        let condition = Condition { shards, stuck, full, clock_off, replicas_max };
        if self.condition != condition {
            self.condition.clone_from(&condition);
            // Its own shards hear of it, too: one whose disk alone hangs can still give up what it leads.
            let change = LivenessChange::Condition(condition.clone());
            beats.push(Beat::Tell { peer: self.own, change });
        }
        let sign = |to: &NodeId| Beat::Send { to: *to, sign: Sign { wall, condition: condition.clone() } };
        beats.extend(self.peers.keys().map(sign));
    }

    /// The shards that do not go on.
    fn stuck(&self, now: Monotonic, busy: &[Option<Monotonic>]) -> Vec<u32> {
        let is_stuck = |since: &Option<Monotonic>| {
            since.is_some_and(|since| now.since(since.max(self.awake_since)) >= self.timings.stuck)
        };
        (0..).zip(busy).filter(|(_, since)| is_stuck(since)).map(|(shard, _)| shard).collect()
    }

    fn excuse(&mut self, late: core::time::Duration, now: Monotonic) {
        for peer in self.peers.values_mut() {
            peer.heard = peer.heard.map(|heard| (heard + late).min(now));
        }
        let graces = core::mem::take(&mut self.graces);
        for (grace, node) in graces {
            let grace = grace + late;
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.grace = Some(grace);
                self.graces.insert((grace, node));
            }
        }
    }
}

/// So many intervals pass between two looks where there are no peers.
const LONELY_INTERVALS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use core::time::Duration;

    const PEER: NodeId = NodeId(2);

    fn at(ms: u64) -> Monotonic {
        Monotonic::ZERO + Duration::from_millis(ms)
    }

    fn now(ms: u64) -> Now {
        Now { monotonic: at(ms), wall: Timestamp(i64::try_from(ms).unwrap()) }
    }

    fn sign(stuck: &[u32]) -> Sign {
        let condition = Condition { shards: 4, stuck: stuck.to_vec(), ..Condition::default() };
        Sign { wall: Timestamp(0), condition }
    }

    struct Tested {
        pulse: Pulse,
        beats: Vec<Beat>,
    }

    impl Tested {
        fn new() -> Self {
            let pulse = Pulse::new(NodeId(1), 2, Timings::default(), [NodeId(1), PEER], at(0));
            Self { pulse, beats: Vec::new() }
        }

        /// What was told of the peer, conditions left out.
        fn told(&mut self) -> Vec<LivenessChange> {
            let told = |beat| match beat {
                Beat::Tell { change: LivenessChange::Condition(_), .. } => None,
                Beat::Tell { peer, change } => {
                    assert_eq!(peer, PEER);
                    Some(change)
                }
                Beat::Send { .. } => None,
            };
            core::mem::take(&mut self.beats).into_iter().filter_map(told).collect()
        }

        fn alive(&mut self, boot: u64, ms: u64) -> Vec<LivenessChange> {
            self.pulse.heard(PEER, BootId(boot), sign(&[]), now(ms), &mut self.beats);
            self.told()
        }

        fn connected(&mut self, ms: u64) -> Vec<LivenessChange> {
            self.pulse.connected(PEER, at(ms), &mut self.beats);
            self.told()
        }

        fn tick(&mut self, ms: u64) -> Vec<LivenessChange> {
            self.pulse.tick(now(ms), &[None, None], false, &mut self.beats);
            self.told()
        }

        /// Ticks in time, every interval, until then.
        fn ticks_until(&mut self, ms: u64) -> Vec<LivenessChange> {
            let mut told = Vec::new();
            while self.pulse.deadline() <= at(ms) {
                told.extend(self.tick(self.pulse.deadline().0 / 1000));
            }
            told
        }
    }

    #[test]
    fn silence_brings_a_peer_down_and_a_sign_up_again() {
        let mut tested = Tested::new();
        assert_eq!(tested.alive(1, 0), [LivenessChange::Up]);
        assert_eq!(tested.ticks_until(499), []);
        assert_eq!(tested.alive(1, 500), []);
        assert_eq!(tested.ticks_until(1499), []);
        assert_eq!(tested.ticks_until(1500), [LivenessChange::Down]);
        assert_eq!(tested.ticks_until(1600), []);
        assert_eq!(tested.alive(1, 1700), [LivenessChange::Up]);
    }

    #[test]
    fn a_restart_and_a_new_connection_reset() {
        let mut tested = Tested::new();
        assert_eq!(tested.connected(0), [LivenessChange::Up]);
        assert_eq!(tested.alive(1, 1), []);
        assert_eq!(tested.alive(2, 2), [LivenessChange::Reset]);
        assert_eq!(tested.connected(3), [LivenessChange::Reset]);
    }

    #[test]
    fn a_broken_connection_has_a_grace_a_refused_one_none() {
        let mut tested = Tested::new();
        tested.connected(0);
        tested.tick(0);
        tested.pulse.disconnected(PEER, at(10));
        assert_eq!(tested.pulse.deadline(), at(100));
        assert_eq!(tested.alive(1, 50), [], "heard of in time");
        assert_eq!(tested.tick(100), []);
        tested.pulse.disconnected(PEER, at(110));
        assert_eq!(tested.ticks_until(309), []);
        assert_eq!(tested.ticks_until(310), [LivenessChange::Down]);
        tested.connected(320);
        tested.pulse.refused(PEER, &mut tested.beats);
        assert_eq!(tested.told(), [LivenessChange::Down]);
        tested.pulse.refused(PEER, &mut tested.beats);
        assert_eq!(tested.told(), []);
    }

    #[test]
    fn strangers_are_not_kept() {
        let mut tested = Tested::new();
        tested.pulse.heard(NodeId(9), BootId(1), sign(&[]), now(0), &mut tested.beats);
        tested.pulse.connected(NodeId(9), at(0), &mut tested.beats);
        assert_eq!(tested.beats, []);
        tested.pulse.learn([NodeId(9), NodeId(1)]);
        assert_eq!(tested.pulse.peers.len(), 2, "one's own node is nobody's peer");
    }

    #[test]
    fn who_did_not_listen_holds_no_silence_against_others() {
        let mut tested = Tested::new();
        tested.alive(1, 0);
        tested.ticks_until(400);
        // The process is stopped for a minute.
        assert_eq!(tested.tick(60_000), []);
        assert_eq!(tested.ticks_until(60_499), [], "it was silent for 0.5 s before");
        assert_eq!(tested.ticks_until(60_500), [LivenessChange::Down]);
    }

    #[test]
    fn a_shard_that_does_not_go_on_is_said_to_be_stuck() {
        let mut tested = Tested::new();
        let mut said = |ms, busy: &[Option<Monotonic>]| {
            tested.pulse.tick(now(ms), busy, true, &mut tested.beats);
            let last = tested.beats.pop();
            let own = core::mem::take(&mut tested.beats).pop();
            let Some(Beat::Send { to: PEER, sign: Sign { condition, .. } }) = last else {
                panic!("{last:?}")
            };
            assert_eq!((condition.shards, condition.full), (2, true));
            if let Some(own) = own {
                let change = LivenessChange::Condition(condition.clone());
                assert_eq!(own, Beat::Tell { peer: NodeId(1), change }, "its own shards hear of it");
            }
            condition.stuck
        };
        for ms in (0..2000).step_by(100) {
            assert_eq!(said(ms, &[Some(at(ms)), Some(at(0))]), []);
        }
        assert_eq!(said(2000, &[Some(at(1950)), Some(at(0))]), [1]);
        assert_eq!(said(2100, &[None, None]), []);
        // Stopped for a minute, in the middle of a turn: the turn did not hang.
        assert_eq!(said(62_100, &[Some(at(2050)), None]), []);
        for ms in (62_200..64_100).step_by(100) {
            assert_eq!(said(ms, &[Some(at(2050)), None]), []);
        }
        assert_eq!(said(64_100, &[Some(at(2050)), None]), [0], "now it does");
    }

    #[test]
    fn a_condition_is_told_when_it_changes_and_before_its_node_is_up() {
        let mut tested = Tested::new();
        tested.pulse.heard(PEER, BootId(1), sign(&[3]), now(0), &mut tested.beats);
        let stuck = LivenessChange::Condition(sign(&[3]).condition);
        let told = vec![
            Beat::Tell { peer: PEER, change: stuck },
            Beat::Tell { peer: PEER, change: LivenessChange::Up },
        ];
        assert_eq!(core::mem::take(&mut tested.beats), told);
        tested.pulse.heard(PEER, BootId(1), sign(&[3]), now(1), &mut tested.beats);
        assert_eq!(tested.beats, []);
        tested.pulse.heard(PEER, BootId(1), sign(&[]), now(2), &mut tested.beats);
        assert_eq!(tested.beats.len(), 1);
    }

    #[test]
    fn a_group_is_stuck_with_its_shard() {
        let condition = sign(&[1, 3]).condition;
        let stuck: Vec<u64> = (0..8).filter(|group| condition.is_stuck(GroupId(*group))).collect();
        assert_eq!(stuck, [1, 3, 5, 7]);
        assert!(!Condition::default().is_stuck(GroupId(1)), "nothing was said yet");
    }
}
