//! What the shards publish about the node, for the doors to read without asking a shard.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use raftline_proto::ids::{GroupId, NodeId, Term};
use raftline_raft::types::Role;
use raftline_shard::image::MetadataImage;
use raftline_shard::types::LivenessChange;
use tokio::sync::watch;

/// The node as its shards last described it. May lag a little behind them; never decides anything.
#[derive(Debug)]
pub struct NodeView {
    image: ArcSwap<MetadataImage>,
    changes: watch::Sender<u64>,
    leaders: RwLock<HashMap<GroupId, GroupLeader>>,
    failures: RwLock<HashMap<GroupId, String>>,
    alive: RwLock<BTreeSet<NodeId>>,
}

/// What this node knows of a group's leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLeader {
    /// The term.
    pub term: Term,
    /// The leader, if known.
    pub leader: Option<NodeId>,
    /// This node's role in the group.
    pub role: Role,
}

impl Default for NodeView {
    fn default() -> Self {
        Self {
            image: ArcSwap::default(),
            changes: watch::Sender::new(0),
            leaders: RwLock::default(),
            failures: RwLock::default(),
            alive: RwLock::default(),
        }
    }
}

impl NodeView {
    /// The cluster's metadata through some committed entry.
    #[must_use]
    pub fn image(&self) -> Arc<MetadataImage> {
        self.image.load_full()
    }

    /// A receiver that wakes whenever the image, a leader or a peer's liveness changed. The value counts changes
    /// and means nothing else.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What is known of a group's leader; `None` if this node has no replica of it (or has not opened it yet).
    #[must_use]
    pub fn leader(&self, group: GroupId) -> Option<GroupLeader> {
        self.leaders.read().get(&group).copied()
    }

    /// Why a group's replica is closed, if its storage failed.
    #[must_use]
    pub fn failure(&self, group: GroupId) -> Option<String> {
        self.failures.read().get(&group).cloned()
    }

    /// Whether the peer's node answers.
    #[must_use]
    pub fn is_alive(&self, node: NodeId) -> bool {
        self.alive.read().contains(&node)
    }

    /// All peers that answer.
    #[must_use]
    pub fn alive(&self) -> BTreeSet<NodeId> {
        self.alive.read().clone()
    }

    pub(crate) fn set_image(&self, image: Arc<MetadataImage>) {
        self.image.store(image);
        self.changed();
    }

    pub(crate) fn set_leader(&self, group: GroupId, leader: GroupLeader) {
        self.leaders.write().insert(group, leader);
        self.changed();
    }

    pub(crate) fn set_failed(&self, group: GroupId, reason: String) {
        self.failures.write().insert(group, reason);
        self.changed();
    }

    pub(crate) fn remove_group(&self, group: GroupId) {
        self.leaders.write().remove(&group);
        self.failures.write().remove(&group);
        self.changed();
    }

    pub(crate) fn set_liveness(&self, node: NodeId, change: LivenessChange) {
        match change {
            LivenessChange::Up | LivenessChange::Reset => self.alive.write().insert(node),
            LivenessChange::Down => self.alive.write().remove(&node),
        };
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}
