//! What the shards publish about the node, for the doors to read without asking a shard.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::leader_lines::{self, LeaderLines};
use crate::leaderships::Leaderships;
use crate::payload::LeaderNews;
use arc_swap::ArcSwap;
use parking_lot::{RwLock, RwLockReadGuard};
use raftline_proto::ids::{GroupId, Index, NodeId, Term};
use raftline_proto::time::Monotonic;
use raftline_raft::types::Role;
use raftline_shard::image::{MetadataImage, TopicImage};
use raftline_shard::pulse::Condition;
use raftline_shard::types::LivenessChange;
use tokio::sync::watch;

/// The node as its shards last described it. May lag a little behind them; never decides anything.
#[derive(Debug)]
pub struct NodeView {
    image: ArcSwap<MetadataImage>,
    changes: watch::Sender<u64>,
    leaderships: RwLock<Leaderships>,
    failures: RwLock<HashMap<GroupId, String>>,
    /// The closed replicas of each peer, as it said last.
    closed_elsewhere: RwLock<BTreeMap<NodeId, BTreeSet<GroupId>>>,
    /// Through which entry each peer's doors know the metadata, as it said last.
    applied_elsewhere: RwLock<BTreeMap<NodeId, Index>>,
    /// The peers that were heard of since the start.
    peers: RwLock<BTreeMap<NodeId, PeerState>>,
    visit: AtomicU64,
    /// What the log is to say of leaders.
    leader_lines: LeaderLines,
    /// How each node said it is, this one too.
    conditions: RwLock<BTreeMap<NodeId, Condition>>,
    /// What cannot be, and was: the last of it.
    alarms: RwLock<Alarms>,
    /// The longest sync that was too long, of late.
    slow_sync: RwLock<Option<(Duration, Monotonic)>>,
}

/// Alarms since the start.
#[derive(Clone, Debug, Default)]
pub struct Alarms {
    /// How many there were.
    pub count: u64,
    /// The last of them, oldest first.
    pub last: VecDeque<(GroupId, String)>,
}

/// So many alarms are kept.
const ALARMS_KEPT: usize = 16;

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
            leaderships: RwLock::default(),
            failures: RwLock::default(),
            closed_elsewhere: RwLock::default(),
            applied_elsewhere: RwLock::default(),
            peers: RwLock::default(),
            visit: AtomicU64::new(1),
            leader_lines: LeaderLines::default(),
            conditions: RwLock::default(),
            alarms: RwLock::default(),
            slow_sync: RwLock::default(),
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
        self.leaderships.read().leader(group)
    }

    /// The last one that told this node that it leads the group, though it may be silent now.
    pub(crate) fn last_leader(&self, group: GroupId) -> Option<NodeId> {
        self.leaderships.read().last_leader(group)
    }

    /// The replicas in sync, as the last leader that this node knows of saw them; `None` if none has said so yet.
    #[must_use]
    pub fn in_sync(&self, group: GroupId) -> Option<Vec<NodeId>> {
        self.leaderships.read().in_sync(group).map(<[NodeId]>::to_vec)
    }

    /// Whether the peer's replica of the group is closed, as that peer said.
    #[must_use]
    pub fn is_closed_on(&self, node: NodeId, group: GroupId) -> bool {
        self.closed_elsewhere.read().get(&node).is_some_and(|groups| groups.contains(&group))
    }

    /// Waits until the doors of every broker that answers know the metadata through `index`; those whose copy of it is closed
    /// never do. Not longer than `wait`.
    pub(crate) async fn applied_everywhere(&self, index: Index, wait: Duration) {
        let mut changes = self.changes();
        let lacks = |node: &NodeId| {
            let known = self.applied_elsewhere.read().get(node).is_some_and(|applied| *applied >= index);
            !known && !self.is_closed_on(*node, GroupId::COORDINATOR)
        };
        let known = async { while self.alive().iter().any(lacks) && changes.changed().await.is_ok() {} };
        if tokio::time::timeout(wait, known).await.is_err() {
            let late: Vec<NodeId> = self.alive().into_iter().filter(lacks).collect();
            tracing::info!(?late, "a change of metadata was answered before these brokers have applied it");
        }
    }

    /// A peer says through which entry its doors know the metadata.
    pub(crate) fn heard_of_applied(&self, node: NodeId, index: Index) {
        self.applied_elsewhere.write().insert(node, index);
        self.changed();
    }

    /// Every replica here that is closed.
    pub(crate) fn closed(&self) -> Vec<GroupId> {
        self.failures.read().keys().copied().collect()
    }

    /// What peers are to be told of who leads what.
    pub(crate) fn leaderships(&self) -> RwLockReadGuard<'_, Leaderships> {
        self.leaderships.read()
    }

    /// Waits until each partition of these topics has had a leader that was heard of here, or its topic is gone. Not longer
    /// than a moment, and only once: one that has none by then may have none for long.
    pub(crate) async fn first_leaders(&self, topics: &[Arc<TopicImage>]) {
        let groups = |topic: &TopicImage| -> Vec<GroupId> {
            topic.partitions.iter().map(|partition| partition.group).collect()
        };
        let mut changes = self.changes();
        let waits = || {
            let (leaderships, image) = (self.leaderships.read(), self.image());
            let there = topics.iter().filter(|topic| image.topics.contains_key(&topic.id));
            there.flat_map(|topic| groups(topic)).any(|group| leaderships.may_get_first(group))
        };
        let led = async { while waits() && changes.changed().await.is_ok() {} };
        if tokio::time::timeout(FIRST_LEADER_WAIT, led).await.is_err() {
            let mut leaderships = self.leaderships.write();
            topics.iter().flat_map(|topic| groups(topic)).for_each(|group| leaderships.waited_for(group));
        }
    }

    /// Counts what [`NodeView::changes`] wakes for.
    pub(crate) fn change_count(&self) -> u64 {
        *self.changes.borrow()
    }

    /// A peer says what it knows of who leads a group.
    pub(crate) fn heard_of_leader(&self, group: GroupId, news: LeaderNews, from: NodeId) {
        let mut leaderships = self.leaderships.write();
        if !leaderships.hear(group, news, from) {
            return;
        }
        // Deleted groups are forgotten when they are the most of it.
        let image = self.image();
        let groups = image.topics.values().map(|topic| topic.partitions.len()).sum::<usize>();
        if leaderships.heard_count() > 2 * groups + ELSEWHERE_MIN {
            let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
            leaderships.retain_heard(&partitions.map(|partition| partition.group).collect());
        }
        drop(leaderships);
        self.changed();
    }

    /// A peer says which of its replicas are closed: these, and no others.
    pub(crate) fn heard_of_closed(&self, node: NodeId, groups: Vec<GroupId>) {
        self.closed_elsewhere.write().insert(node, groups.into_iter().collect());
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

    /// What people call a group: topic and partition. For logs: it looks through all topics.
    #[must_use]
    pub fn place_of(&self, group: GroupId) -> String {
        let image = self.image();
        let found = image.topics.values().find_map(|topic| {
            let at = topic.partitions.iter().position(|partition| partition.group == group)?;
            Some(format!("{}/{at}", topic.name))
        });
        found.unwrap_or_else(|| unnamed(group))
    }

    /// Another leader leads the group: for the log, which tells it a moment later together with others.
    pub(crate) fn note_new_leader(&self, group: GroupId, leader: NodeId, now: Monotonic) {
        self.leader_lines.note(group, leader, now);
    }

    /// Tells what leaders have changed, if it is time to.
    pub(crate) fn say_new_leaders(&self, now: Monotonic) {
        let Some(leaders) = self.leader_lines.due(now) else { return };
        let image = self.image();
        let mut names = HashMap::from([(GroupId::COORDINATOR, unnamed(GroupId::COORDINATOR))]);
        for topic in image.topics.values() {
            for (partition, at) in topic.partitions.iter().zip(0..) {
                if leaders.contains_key(&partition.group) {
                    names.insert(partition.group, format!("{}/{at}", topic.name));
                }
            }
        }
        tracing::info!("leaders changed: {}", leader_lines::line(&leaders, &names));
    }

    /// How the node said it is; as if all were well, if it never said.
    #[must_use]
    pub fn condition(&self, node: NodeId) -> Condition {
        self.conditions.read().get(&node).cloned().unwrap_or_default()
    }

    /// How each node said that it is.
    #[must_use]
    pub fn conditions(&self) -> BTreeMap<NodeId, Condition> {
        self.conditions.read().clone()
    }

    /// What could not be, and was.
    #[must_use]
    pub fn alarms(&self) -> Alarms {
        self.alarms.read().clone()
    }

    pub(crate) fn note_alarm(&self, group: GroupId, text: String) {
        let mut alarms = self.alarms.write();
        alarms.count += 1;
        alarms.last.push_back((group, text));
        if alarms.last.len() > ALARMS_KEPT {
            alarms.last.pop_front();
        }
    }

    /// The longest of the syncs that took too long `within` the last moments; `None` if none did.
    #[must_use]
    pub fn slow_sync(&self, now: Monotonic, within: Duration) -> Option<Duration> {
        self.slow_sync.read().filter(|(_, at)| now.since(*at) < within).map(|(took, _)| took)
    }

    pub(crate) fn note_slow_sync(&self, took: Duration, now: Monotonic) {
        let mut slowest = self.slow_sync.write();
        let is_worse = |(known, at): (Duration, Monotonic)| took >= known || now.since(at) >= SLOW_SYNC_KEPT;
        if slowest.is_none_or(is_worse) {
            *slowest = Some((took, now));
        }
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
        self.leaderships.write().set_own(group, leader);
        self.changed();
    }

    pub(crate) fn set_in_sync(&self, group: GroupId, term: Term, nodes: Vec<NodeId>) {
        self.leaderships.write().set_in_sync(group, term, nodes);
        self.changed();
    }

    pub(crate) fn set_failed(&self, group: GroupId, reason: String) {
        self.failures.write().entry(group).or_insert(reason);
        self.changed();
    }

    /// The shard has closed its replica, of which it says nothing any more.
    pub(crate) fn set_closed(&self, group: GroupId, reason: String) {
        self.leaderships.write().close_own(group);
        self.set_failed(group, reason);
    }

    pub(crate) fn remove_group(&self, group: GroupId) {
        self.leaderships.write().remove(group);
        self.failures.write().remove(&group);
        self.changed();
    }

    pub(crate) fn set_liveness(&self, node: NodeId, change: &LivenessChange, now: Monotonic) {
        let state = match change {
            LivenessChange::Up | LivenessChange::Reset => {
                PeerState::Up { visit: self.visit.fetch_add(1, Ordering::Relaxed) }
            }
            LivenessChange::Down => PeerState::Down { since: now },
            LivenessChange::Condition(condition) => {
                self.conditions.write().insert(node, condition.clone());
                return;
            }
        };
        self.peers.write().insert(node, state);
        self.changed();
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// What a group is called that is no partition, or none any more.
fn unnamed(group: GroupId) -> String {
    match group {
        GroupId::COORDINATOR => "the coordinator's log".to_owned(),
        group => format!("group {group}"),
    }
}

/// A sync that took too long is told of for so long.
pub(crate) const SLOW_SYNC_KEPT: Duration = Duration::from_secs(60);

/// How long a group that has just come about may take to elect its first leader before it counts as one without.
const FIRST_LEADER_WAIT: Duration = Duration::from_secs(2);

/// So many leaders elsewhere are kept, however few partitions the cluster has.
const ELSEWHERE_MIN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use raftline_proto::ids::TopicId;
    use raftline_proto::metadata::PartitionRecord;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    const GROUP: GroupId = GroupId(3);

    fn leader(leader: Option<NodeId>) -> GroupLeader {
        GroupLeader { term: Term(1), leader, role: Role::Follower }
    }

    /// A view whose image has one topic of one partition, [`GROUP`].
    fn with_topic() -> (NodeView, Arc<TopicImage>) {
        let partitions = vec![PartitionRecord { group: GROUP, replicas: vec![NodeId(1)] }];
        let topic = TopicImage { id: TopicId(1), name: "t".into(), partitions, configs: BTreeMap::new() };
        let topic = Arc::new(topic);
        let view = NodeView::default();
        let mut image = MetadataImage::default();
        image.topics.insert(topic.id, Arc::clone(&topic));
        view.set_image(Arc::new(image));
        (view, topic)
    }

    #[tokio::test]
    async fn a_first_leader_is_waited_for_and_no_other() {
        let (view, topic) = with_topic();
        let topics = [topic];
        let mut context = Context::from_waker(Waker::noop());
        let waits = |view: &NodeView, context: &mut Context<'_>| {
            let waiting = pin!(view.first_leaders(&topics));
            waiting.poll(context) == Poll::Pending
        };
        assert!(waits(&view, &mut context), "nothing was heard of it");
        view.set_leader(GROUP, leader(None));
        assert!(waits(&view, &mut context), "it has just come about");
        let (_, ()) = tokio::join!(view.first_leaders(&topics), async {
            view.set_leader(GROUP, leader(Some(NodeId(2))))
        });
        assert!(!waits(&view, &mut context), "it has one");
        view.set_leader(GROUP, leader(None));
        assert!(!waits(&view, &mut context), "it had one");
        view.remove_group(GROUP);
        assert!(waits(&view, &mut context), "another one of that number");
        let news = LeaderNews { term: Term(4), leader: Some(NodeId(2)), in_sync: Vec::new() };
        view.heard_of_leader(GROUP, news, NodeId(2));
        assert!(!waits(&view, &mut context), "a peer leads it");
        view.remove_group(GROUP);
        view.first_leaders(&topics).await;
        assert!(!waits(&view, &mut context), "it was waited for once");
        view.remove_group(GROUP);
        view.set_image(Arc::new(MetadataImage::default()));
        assert!(!waits(&view, &mut context), "its topic is gone");
    }

    #[tokio::test]
    async fn a_change_is_known_everywhere_once_those_that_answer_have_applied_it() {
        let view = NodeView::default();
        let known = async |index| {
            let long = Duration::from_secs(3600);
            let waiting = pin!(view.applied_everywhere(Index(index), long));
            waiting.poll(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        assert!(known(7).await, "there is nobody else");
        for peer in [2, 3] {
            view.set_liveness(NodeId(peer), &LivenessChange::Up, Monotonic::ZERO);
        }
        view.heard_of_applied(NodeId(2), Index(7));
        assert!(!known(7).await, "one has said nothing");
        view.heard_of_applied(NodeId(3), Index(6));
        assert!(!known(7).await);
        view.heard_of_applied(NodeId(3), Index(8));
        assert!(known(7).await);
        view.heard_of_applied(NodeId(3), Index(5));
        assert!(!known(7).await, "it was restarted");
        view.set_liveness(NodeId(3), &LivenessChange::Down, Monotonic::ZERO);
        assert!(known(7).await, "it does not answer");
        view.set_liveness(NodeId(3), &LivenessChange::Up, Monotonic::ZERO);
        view.heard_of_closed(NodeId(3), vec![GroupId::COORDINATOR]);
        assert!(known(7).await, "its copy of the metadata is closed");
        view.heard_of_closed(NodeId(3), vec![GROUP]);
        view.applied_everywhere(Index(7), Duration::ZERO).await;
    }

    #[test]
    fn what_is_closed_elsewhere_is_what_was_said_last() {
        let view = NodeView::default();
        assert!(!view.is_closed_on(NodeId(2), GROUP));
        view.heard_of_closed(NodeId(2), vec![GROUP]);
        assert!(view.is_closed_on(NodeId(2), GROUP) && !view.is_closed_on(NodeId(3), GROUP));
        view.heard_of_closed(NodeId(2), Vec::new());
        assert!(!view.is_closed_on(NodeId(2), GROUP));
    }

    #[test]
    fn what_a_node_says_of_itself_and_what_goes_wrong_is_kept() {
        let view = NodeView::default();
        assert_eq!(view.condition(NodeId(2)), Condition::default());
        let off = Condition { clock_off: true, stuck: vec![1], ..Condition::default() };
        view.set_liveness(NodeId(2), &LivenessChange::Condition(off.clone()), Monotonic::ZERO);
        assert_eq!(view.condition(NodeId(2)), off);
        assert!(!view.is_alive(NodeId(2)), "that it answers is told apart");
        for number in 0..ALARMS_KEPT + 3 {
            view.note_alarm(GROUP, number.to_string());
        }
        let alarms = view.alarms();
        assert_eq!((alarms.count, alarms.last.len()), (19, ALARMS_KEPT));
        assert_eq!(alarms.last.back(), Some(&(GROUP, "18".to_owned())));
        let at = |seconds| Monotonic::ZERO + Duration::from_secs(seconds);
        for (took, when) in [(3, 10), (2, 20)] {
            view.note_slow_sync(Duration::from_secs(took), at(when));
        }
        let within = |now| view.slow_sync(at(now), Duration::from_secs(60)).map(|took| took.as_secs());
        assert_eq!((within(69), within(70)), (Some(3), None), "the longest, for a minute");
        view.note_slow_sync(Duration::from_secs(2), at(75));
        assert_eq!(within(80), Some(2));
    }

    #[test]
    fn a_group_has_the_name_of_its_partition() {
        let (view, _) = with_topic();
        assert_eq!(view.place_of(GROUP), "t/0");
        assert_eq!(view.place_of(GroupId::COORDINATOR), "the coordinator's log");
        assert_eq!(view.place_of(GroupId(9)), "group 9");
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
