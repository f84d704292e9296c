//! What a shard knows of the other nodes.

use crate::config::Timings;
use crate::pulse::Condition;
use crate::types::LivenessChange;
use crate::wall;
use alloc::collections::{BTreeMap, BTreeSet};
use raftline_proto::ids::{GroupId, NodeId};
use raftline_proto::time::{Monotonic, Now};

/// The nodes that answer, this one among them, and how they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers {
    alive: BTreeSet<NodeId>,
    conditions: BTreeMap<NodeId, Condition>,
    /// The distance of this node's wall clock from its monotonic one, in milliseconds, when it was looked at last,
    wall_distance: Option<i64>,
    /// and until when it is doubted since it was another one before.
    clock_doubted: Option<Monotonic>,
}

impl Peers {
    pub fn new(own: NodeId) -> Self {
        Self { alive: [own].into_iter().collect(), ..Self::default() }
    }

    /// The nodes that answer.
    pub fn alive(&self) -> &BTreeSet<NodeId> {
        &self.alive
    }

    /// Whether the node answers, and its replica of the group goes on.
    pub fn reaches(&self, node: NodeId, group: GroupId) -> bool {
        let is_stuck = |condition: &Condition| condition.is_stuck(group);
        self.alive.contains(&node) && !self.conditions.get(&node).is_some_and(is_stuck)
    }

    /// Whether the node's disk takes records, as far as is known.
    pub fn has_room(&self, node: NodeId) -> bool {
        self.conditions.get(&node).is_none_or(|condition| !condition.full)
    }

    /// Whether this node's wall clock can be trusted, as its pulse says, and by [`Peers::watch_clock`].
    pub fn is_clock_right(&self, own: NodeId) -> bool {
        self.clock_doubted.is_none()
            && !self.conditions.get(&own).is_some_and(|condition| condition.clock_off)
    }

    /// Notes how this node's wall clock is at the start.
    pub fn note_clock(&mut self, now: Now) {
        self.wall_distance.get_or_insert_with(|| wall::distance(now));
    }

    /// Looks at this node's wall clock before it decides anything: the pulse tells of a jump, but perhaps only a moment
    /// later.
    pub fn watch_clock(&mut self, now: Now, timings: &Timings) {
        let distance = wall::distance(now);
        let bound = i64::try_from(timings.clock_off_max.as_millis()).unwrap_or(i64::MAX);
        let before = self.wall_distance.replace(distance).unwrap_or(distance);
        if distance.saturating_sub(before).saturating_abs() > bound {
            self.clock_doubted = Some(now.monotonic + timings.clock_settle);
        }
        self.clock_doubted.take_if(|until| *until <= now.monotonic);
    }

    /// How the nodes are, as far as is known.
    pub fn conditions(&self) -> &BTreeMap<NodeId, Condition> {
        &self.conditions
    }

    pub fn follow(&mut self, node: NodeId, change: LivenessChange) {
        match change {
            LivenessChange::Up | LivenessChange::Reset => {
                self.alive.insert(node);
            }
            LivenessChange::Down => {
                self.alive.remove(&node);
            }
            LivenessChange::Condition(condition) => {
                self.conditions.insert(node, condition);
            }
        }
    }
}
