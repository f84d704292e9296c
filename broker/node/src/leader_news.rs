//! Tells brokers without a replica of a group who leads it, so that whichever broker a client asks knows.
//!
//! A new leader says so once to each node that has no replica; what a node missed while it was not heard is said again
//! when it comes back. Nothing is said where every node has a replica.

use crate::payload::{PeerBody, PeerMessage, PeerSender, SendOutcome};
use crate::view::NodeView;
use raftline_proto::ids::{GroupId, NodeId, Term};
use raftline_raft::types::Role;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Tells the peers until it is dropped.
pub(crate) async fn tell(view: Arc<NodeView>, own: NodeId, mut peers: impl PeerSender) {
    let mut changes = view.changes();
    let mut told = Told::default();
    loop {
        changes.borrow_and_update();
        let all = told.tell(&view, own, &mut peers);
        let changed = if all {
            changes.changed().await
        } else {
            // A peer's queue was full.
            tokio::time::timeout(AGAIN, changes.changed()).await.unwrap_or(Ok(()))
        };
        if changed.is_err() {
            return;
        }
    }
}

/// What was said to whom.
#[derive(Default)]
struct Told {
    peers: BTreeMap<NodeId, ToldPeer>,
}

#[derive(Default)]
struct ToldPeer {
    /// Which of the peer's coming backs it was said in.
    visit: u64,
    terms: HashMap<GroupId, Term>,
}

impl Told {
    /// Says what is new; returns whether all could be said.
    fn tell(&mut self, view: &NodeView, own: NodeId, sender: &mut impl PeerSender) -> bool {
        let visits = view.visits();
        self.peers.retain(|peer, _| visits.contains_key(peer));
        let image = view.image();
        let mut all = true;
        for partition in image.topics.values().flat_map(|topic| &topic.partitions) {
            if partition.replicas.len() > visits.len() || !partition.replicas.contains(&own) {
                continue;
            }
            let Some(led) = view.leader(partition.group).filter(|known| known.role == Role::Leader) else {
                continue;
            };
            for (peer, visit) in visits.iter().filter(|(peer, _)| !partition.replicas.contains(peer)) {
                let told = self.peers.entry(*peer).or_default();
                if told.visit != *visit {
                    *told = ToldPeer { visit: *visit, terms: HashMap::new() };
                }
                if told.terms.get(&partition.group) == Some(&led.term) {
                    continue;
                }
                let body = PeerBody::Leads { term: led.term };
                match sender.send(*peer, PeerMessage { group: partition.group, body }) {
                    SendOutcome::Sent => drop(told.terms.insert(partition.group, led.term)),
                    SendOutcome::Busy => all = false,
                }
            }
        }
        sender.flush();
        all
    }
}

/// When to try again where a queue was full.
const AGAIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::GroupLeader;
    use raftline_proto::ids::TopicId;
    use raftline_proto::metadata::PartitionRecord;
    use raftline_proto::time::Monotonic;
    use raftline_shard::image::{MetadataImage, TopicImage};
    use raftline_shard::types::LivenessChange;

    #[derive(Default)]
    struct Sent {
        news: Vec<(NodeId, GroupId, Term)>,
        full: bool,
    }

    impl PeerSender for Sent {
        fn send(&mut self, to: NodeId, message: PeerMessage) -> SendOutcome {
            if self.full {
                return SendOutcome::Busy;
            }
            let PeerBody::Leads { term } = message.body else { panic!("{message:?}") };
            self.news.push((to, message.group, term));
            SendOutcome::Sent
        }

        fn flush(&mut self) {}
    }

    fn view() -> NodeView {
        let partition = |group, replicas: &[u32]| PartitionRecord {
            group: GroupId(group),
            replicas: replicas.iter().copied().map(NodeId).collect(),
        };
        let topic = TopicImage {
            id: TopicId(1),
            name: "t".into(),
            partitions: vec![partition(1, &[1, 2]), partition(2, &[1]), partition(3, &[2, 3])],
            configs: std::collections::BTreeMap::new(),
        };
        let mut image = MetadataImage::default();
        image.topics.insert(topic.id, Arc::new(topic));
        let view = NodeView::default();
        view.set_image(Arc::new(image));
        for peer in [2, 3] {
            view.set_liveness(NodeId(peer), &LivenessChange::Up, Monotonic::ZERO);
        }
        view
    }

    fn leads(view: &NodeView, group: u64, term: u64) {
        let leader = GroupLeader { term: Term(term), leader: Some(NodeId(1)), role: Role::Leader };
        view.set_leader(GroupId(group), leader);
    }

    #[test]
    fn who_has_no_replica_is_told_once() {
        let (view, mut told) = (view(), Told::default());
        let mut tell = |full| {
            let mut sent = Sent { full, ..Sent::default() };
            let all = told.tell(&view, NodeId(1), &mut sent);
            (all, sent.news)
        };
        assert_eq!(tell(false), (true, vec![]), "nothing is led");
        leads(&view, 1, 4);
        leads(&view, 2, 5);
        assert_eq!(tell(true), (false, vec![]), "a full queue is tried again");
        let (one, two, three) = (GroupId(1), GroupId(2), NodeId(3));
        let news = vec![(three, one, Term(4)), (NodeId(2), two, Term(5)), (three, two, Term(5))];
        assert_eq!(tell(false), (true, news));
        assert_eq!(tell(false), (true, vec![]), "once");
        leads(&view, 1, 6);
        assert_eq!(tell(false), (true, vec![(three, one, Term(6))]), "a new term is news");
        view.set_liveness(three, &LivenessChange::Down, Monotonic::ZERO);
        view.set_liveness(three, &LivenessChange::Up, Monotonic::ZERO);
        assert_eq!(tell(false).1.len(), 2, "who was away is told again");
    }
}
