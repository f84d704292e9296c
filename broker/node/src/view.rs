//! What the shards publish about the node, for the doors to read without asking a shard.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use raftline_proto::ids::{GroupId, NodeId, Term};
use raftline_proto::time::Monotonic;
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
    /// Groups that have had no leader yet since they are here, and may get one any moment.
    new: RwLock<BTreeSet<GroupId>>,
    /// Of groups without a replica here, as their leaders said.
    elsewhere: RwLock<HashMap<GroupId, (Term, NodeId)>>,
    failures: RwLock<HashMap<GroupId, String>>,
    /// The peers that were heard of since the start.
    peers: RwLock<BTreeMap<NodeId, PeerState>>,
    visit: AtomicU64,
}

/// What is known of a peer's node.
#[derive(Clone, Copy, Debug)]
enum PeerState {
    /// It answers; a number that changes when it was away.
    Up { visit: u64 },
    /// It does not.
    Down { since: Monotonic },
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
            new: RwLock::default(),
            elsewhere: RwLock::default(),
            failures: RwLock::default(),
            peers: RwLock::default(),
            visit: AtomicU64::new(1),
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

    /// What is known of a group's leader; `None` if this node has not heard of any since its start.
    #[must_use]
    pub fn leader(&self, group: GroupId) -> Option<GroupLeader> {
        if let Some(known) = self.leaders.read().get(&group) {
            return Some(*known);
        }
        let (term, leader) = self.elsewhere.read().get(&group).copied()?;
        Some(GroupLeader { term, leader: Some(leader), role: Role::Follower })
    }

    /// Waits until each of the groups has had a leader. Not longer than a moment, and only once: one that has none by then
    /// may have none for long.
    pub(crate) async fn first_leaders(&self, groups: impl Iterator<Item = GroupId> + Clone) {
        let mut changes = self.changes();
        let waits = || {
            let new = self.new.read();
            groups.clone().any(|group| new.contains(&group))
        };
        let led = async { while waits() && changes.changed().await.is_ok() {} };
        if tokio::time::timeout(FIRST_LEADER_WAIT, led).await.is_err() {
            let mut new = self.new.write();
            for group in groups.clone() {
                new.remove(&group);
            }
        }
    }

    /// A node says that it leads a group that has no replica here.
    pub(crate) fn heard_of_leader(&self, group: GroupId, term: Term, leader: NodeId) {
        let image = self.image();
        let mut elsewhere = self.elsewhere.write();
        if elsewhere.get(&group).is_some_and(|(known, _)| *known > term) {
            return;
        }
        elsewhere.insert(group, (term, leader));
        // Deleted groups are forgotten when they are the most of it.
        let groups = image.topics.values().map(|topic| topic.partitions.len()).sum::<usize>();
        if elsewhere.len() > 2 * groups + ELSEWHERE_MIN {
            let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
            let there: BTreeSet<GroupId> = partitions.map(|partition| partition.group).collect();
            elsewhere.retain(|group, _| there.contains(group));
        }
        drop(elsewhere);
        self.changed();
    }

    /// The peers that answer, each with a number that changes when it was away.
    pub(crate) fn visits(&self) -> BTreeMap<NodeId, u64> {
        let peers = self.peers.read();
        let up = peers.iter().filter_map(|(node, state)| match state {
            PeerState::Up { visit } => Some((*node, *visit)),
            PeerState::Down { .. } => None,
        });
        up.collect()
    }

    /// Why a group's replica is closed, if its storage failed.
    #[must_use]
    pub fn failure(&self, group: GroupId) -> Option<String> {
        self.failures.read().get(&group).cloned()
    }

    /// Whether the peer's node answers.
    #[must_use]
    pub fn is_alive(&self, node: NodeId) -> bool {
        matches!(self.peers.read().get(&node), Some(PeerState::Up { .. }))
    }

    /// All peers that answer.
    #[must_use]
    pub fn alive(&self) -> BTreeSet<NodeId> {
        self.visits().into_keys().collect()
    }

    /// For how long the peer's node has not answered; zero if it does. One that was never heard of counts from
    /// `started`, and so does one that went before.
    pub(crate) fn silence(&self, node: NodeId, started: Monotonic, now: Monotonic) -> Duration {
        match self.peers.read().get(&node) {
            Some(PeerState::Up { .. }) => Duration::ZERO,
            Some(PeerState::Down { since }) => now.since(started.max(*since)),
            None => now.since(started),
        }
    }

    pub(crate) fn set_image(&self, image: Arc<MetadataImage>) {
        self.image.store(image);
        self.changed();
    }

    pub(crate) fn set_leader(&self, group: GroupId, leader: GroupLeader) {
        let is_new = self.leaders.write().insert(group, leader).is_none();
        if leader.leader.is_some() {
            self.new.write().remove(&group);
        } else if is_new {
            self.new.write().insert(group);
        }
        self.changed();
    }

    pub(crate) fn set_failed(&self, group: GroupId, reason: String) {
        self.failures.write().insert(group, reason);
        self.changed();
    }

    pub(crate) fn remove_group(&self, group: GroupId) {
        self.leaders.write().remove(&group);
        self.new.write().remove(&group);
        self.failures.write().remove(&group);
        self.changed();
    }

    pub(crate) fn set_liveness(&self, node: NodeId, change: &LivenessChange, now: Monotonic) {
        let state = match change {
            LivenessChange::Up | LivenessChange::Reset => {
                PeerState::Up { visit: self.visit.fetch_add(1, Ordering::Relaxed) }
            }
            LivenessChange::Down => PeerState::Down { since: now },
            LivenessChange::Condition(_) => return,
        };
        self.peers.write().insert(node, state);
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// How long a group that has just come about may take to elect its first leader before it counts as one without.
const FIRST_LEADER_WAIT: Duration = Duration::from_secs(2);

/// So many leaders elsewhere are kept, however few partitions the cluster has.
const ELSEWHERE_MIN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const GROUP: GroupId = GroupId(3);

    fn leader(leader: Option<NodeId>) -> GroupLeader {
        GroupLeader { term: Term(1), leader, role: Role::Follower }
    }

    #[tokio::test]
    async fn a_first_leader_is_waited_for_and_no_other() {
        let view = NodeView::default();
        let mut context = Context::from_waker(Waker::noop());
        let waits = |view: &NodeView, context: &mut Context<'_>| {
            let waiting = pin!(view.first_leaders([GroupId(1), GROUP].into_iter()));
            waiting.poll(context) == Poll::Pending
        };
        assert!(!waits(&view, &mut context), "no such group");
        view.set_leader(GROUP, leader(None));
        assert!(waits(&view, &mut context), "it has just come about");
        view.set_leader(GROUP, leader(None));
        let waiting = view.first_leaders([GROUP].into_iter());
        let (_, ()) = tokio::join!(waiting, async { view.set_leader(GROUP, leader(Some(NodeId(2)))) });
        assert!(!waits(&view, &mut context), "it has one");
        view.set_leader(GROUP, leader(None));
        assert!(!waits(&view, &mut context), "it had one");
        view.remove_group(GROUP);
        view.set_leader(GROUP, leader(None));
        assert!(waits(&view, &mut context), "another one of that number");
        view.remove_group(GROUP);
        assert!(!waits(&view, &mut context), "it is gone");
        view.set_leader(GROUP, leader(None));
        view.first_leaders([GROUP].into_iter()).await;
        assert!(!waits(&view, &mut context), "it was waited for once");
    }

    #[test]
    fn silence_counts_from_when_a_peer_went_or_from_the_start() {
        let view = NodeView::default();
        let at = |seconds| Monotonic::ZERO + Duration::from_secs(seconds);
        let silence = |now| view.silence(NodeId(2), at(10), at(now)).as_secs();
        assert_eq!((silence(10), silence(13)), (0, 3), "never heard of");
        view.set_liveness(NodeId(2), &LivenessChange::Up, at(14));
        assert_eq!(silence(20), 0);
        view.set_liveness(NodeId(2), &LivenessChange::Down, at(20));
        assert_eq!((silence(20), silence(25)), (0, 5));
        assert_eq!((view.is_alive(NodeId(2)), view.alive().len(), view.visits().len()), (false, 0, 0));
        view.set_liveness(NodeId(2), &LivenessChange::Reset, at(26));
        assert_eq!((silence(40), view.is_alive(NodeId(2)), view.visits().len()), (0, true, 1));
        view.set_liveness(NodeId(3), &LivenessChange::Down, at(2));
        assert_eq!(view.silence(NodeId(3), at(10), at(13)).as_secs(), 3, "it went before the start");
    }
}
