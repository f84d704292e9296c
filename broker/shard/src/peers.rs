//! What a shard knows of the other nodes.

use crate::pulse::Condition;
use crate::types::LivenessChange;
use alloc::collections::{BTreeMap, BTreeSet};
use raftline_proto::ids::{GroupId, NodeId};

/// The nodes that answer, this one among them, and how they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers {
    alive: BTreeSet<NodeId>,
    conditions: BTreeMap<NodeId, Condition>,
}

impl Peers {
    pub fn new(own: NodeId) -> Self {
        Self { alive: [own].into_iter().collect(), conditions: BTreeMap::new() }
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

    /// Whether the node's wall clock cannot be trusted, as it says itself.
    pub fn clock_is_off(&self, node: NodeId) -> bool {
        self.conditions.get(&node).is_some_and(|condition| condition.clock_off)
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
