//! Tells the other brokers who leads what and which replicas are in sync, so that whichever broker a client asks knows, and
//! which replicas here are closed, and through which entry the metadata is known here: a change of it is answered when all
//! know it.
//!
//! A leader says so to every peer, and again when that or the replicas in sync change. Replicas that follow know who leads
//! from Raft, but not who is in sync; one that is closed, and a node without a replica, know nothing else. What a peer missed
//! while it was not heard is said again when it comes back, and with it what is known here of partitions whose leader is out
//! of reach: it may have been restarted, and must not tell its clients of an earlier term than before.

use crate::payload::{PeerBody, PeerMessage, PeerSender, SendOutcome};
use crate::view::NodeView;
use raftline_proto::ids::{GroupId, Index, NodeId};
use std::collections::BTreeMap;
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
    /// The peers that answered the last time.
    visits: BTreeMap<NodeId, u64>,
}

struct ToldPeer {
    /// Which of the peer's coming backs it was said in.
    visit: u64,
    /// Every change of what is led here was told through this one.
    through: u64,
    /// What is still to be said of what others lead.
    of_others: Vec<GroupId>,
    /// The closed replicas as they were told; `None` if nothing was said yet.
    closed: Option<Vec<GroupId>>,
    /// Through which entry the metadata is known here, as it was told.
    applied: Option<Index>,
}

impl Told {
    /// Says what is new; returns whether all could be said.
    fn tell(&mut self, view: &NodeView, own: NodeId, sender: &mut impl PeerSender) -> bool {
        let visits = view.visits();
        self.peers.retain(|peer, _| visits.contains_key(peer));
        for (node, visit) in std::mem::take(&mut self.visits) {
            if !visits.contains_key(&node) {
                self.pass_on(view, node, visit);
            }
        }
        let mut closed = view.closed();
        closed.sort_unstable();
        let applied = view.image().applied;
        let mut all = true;
        for (peer, visit) in &visits {
            let told = self.peers.entry(*peer).or_insert_with(|| ToldPeer::new(*visit, view, own, &visits));
            if told.visit != *visit {
                *told = ToldPeer::new(*visit, view, own, &visits);
            }
            all &= told.tell(view, *peer, (&closed, applied), sender);
        }
        self.visits = visits;
        sender.flush();
        all
    }

    /// A node is out of reach that came at `visit`. Peers that came later may not have been told by it what it leads.
    fn pass_on(&mut self, view: &NodeView, gone: NodeId, visit: u64) {
        let later = self.peers.values_mut().filter(|told| told.visit > visit);
        let leaderships = view.leaderships();
        for told in later {
            let led = leaderships.groups().filter(|group| leaderships.last_leader(*group) == Some(gone));
            told.of_others.extend(led);
        }
    }
}

impl ToldPeer {
    /// A peer that has just come: nothing was said yet.
    fn new(visit: u64, view: &NodeView, own: NodeId, visits: &BTreeMap<NodeId, u64>) -> Self {
        let leaderships = view.leaderships();
        let is_out_of_reach = |group: &GroupId| {
            let leader = leaderships.leader(*group).and_then(|known| known.leader);
            leader.is_none_or(|leader| leader != own && !visits.contains_key(&leader))
        };
        let of_others = leaderships.groups().filter(is_out_of_reach).collect();
        Self { visit, through: 0, of_others, closed: None, applied: None }
    }

    /// Says what is new to this peer, as far as its queue takes it.
    fn tell(
        &mut self,
        view: &NodeView,
        peer: NodeId,
        (closed, applied): (&[GroupId], Index),
        sender: &mut impl PeerSender,
    ) -> bool {
        let mut send = |group, body| sender.send(peer, PeerMessage { group, body }) == SendOutcome::Sent;
        if self.closed.as_deref() != Some(closed) {
            if !send(GroupId::COORDINATOR, PeerBody::Closed { groups: closed.to_vec() }) {
                return false;
            }
            self.closed = Some(closed.to_vec());
        }
        // Somebody may be waiting for it.
        if self.applied != Some(applied) {
            if !send(GroupId::COORDINATOR, PeerBody::Applied(applied)) {
                return false;
            }
            self.applied = Some(applied);
        }
        let leaderships = view.leaderships();
        let mut left = NEWS_MAX;
        for (change, group, news) in leaderships.news(self.through) {
            if left == 0 || !send(group, PeerBody::Leads(news)) {
                return false;
            }
            self.through = change;
            left -= 1;
        }
        while let Some(group) = self.of_others.pop() {
            let Some(news) = leaderships.news_of(group) else { continue };
            if left == 0 || !send(group, PeerBody::Leads(news)) {
                self.of_others.push(group);
                return false;
            }
            left -= 1;
        }
        true
    }
}

/// So much is said to a peer at a time: votes go the same way, and must find room.
const NEWS_MAX: usize = 4096;

/// When to try again where a queue was full.
const AGAIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::LeaderNews;
    use crate::view::GroupLeader;
    use raftline_proto::ids::Term;
    use raftline_proto::time::Monotonic;
    use raftline_raft::types::Role;
    use raftline_shard::image::MetadataImage;
    use raftline_shard::types::LivenessChange;

    const OWN: NodeId = NodeId(1);

    #[derive(Default)]
    struct Sent {
        /// To whom, of which group, the term and the leader.
        news: Vec<(u32, u64, u64, Option<u32>)>,
        closed: Vec<(u32, Vec<u64>)>,
        applied: Vec<(u32, u64)>,
        full: bool,
    }

    impl PeerSender for Sent {
        fn send(&mut self, to: NodeId, message: PeerMessage) -> SendOutcome {
            if self.full {
                return SendOutcome::Busy;
            }
            match message.body {
                PeerBody::Leads(news) => {
                    let leader = news.leader.map(|node| node.0);
                    self.news.push((to.0, message.group.0, news.term.0, leader));
                }
                PeerBody::Closed { groups } => {
                    self.closed.push((to.0, groups.iter().map(|group| group.0).collect()));
                }
                PeerBody::Applied(index) => self.applied.push((to.0, index.0)),
                other => panic!("{other:?}"),
            }
            SendOutcome::Sent
        }

        fn flush(&mut self) {}
    }

    fn view() -> NodeView {
        let view = NodeView::default();
        for peer in [2, 3] {
            view.set_liveness(NodeId(peer), &LivenessChange::Up, Monotonic::ZERO);
        }
        view
    }

    fn leads(view: &NodeView, group: u64, term: u64) {
        let leader = GroupLeader { term: Term(term), leader: Some(OWN), role: Role::Leader };
        view.set_leader(GroupId(group), leader);
    }

    fn tell(told: &mut Told, view: &NodeView, full: bool) -> (bool, Sent) {
        let mut sent = Sent { full, ..Sent::default() };
        let all = told.tell(view, OWN, &mut sent);
        (all, sent)
    }

    #[test]
    fn every_peer_is_told_once_of_each_change() {
        let (view, mut told) = (view(), Told::default());
        let mut news = |full| {
            let (all, sent) = tell(&mut told, &view, full);
            (all, sent.news)
        };
        assert_eq!(news(false), (true, vec![]), "nothing is led");
        leads(&view, 1, 4);
        leads(&view, 2, 5);
        assert_eq!(news(true), (false, vec![]), "a full queue is tried again");
        let led = |to| [(to, 1, 4, Some(1)), (to, 2, 5, Some(1))];
        assert_eq!(news(false), (true, [led(2), led(3)].concat()));
        assert_eq!(news(false), (true, vec![]), "once");
        leads(&view, 1, 6);
        assert_eq!(news(false), (true, vec![(2, 1, 6, Some(1)), (3, 1, 6, Some(1))]), "a new term");
        view.set_in_sync(GroupId(2), Term(5), vec![OWN]);
        assert_eq!(news(false).1.len(), 2, "who is in sync");
        let deposed = GroupLeader { term: Term(6), leader: None, role: Role::Follower };
        view.set_leader(GroupId(1), deposed);
        assert_eq!(news(false).1, [(2, 1, 6, None), (3, 1, 6, None)], "it leads no more");
        view.set_liveness(NodeId(3), &LivenessChange::Down, Monotonic::ZERO);
        view.set_liveness(NodeId(3), &LivenessChange::Up, Monotonic::ZERO);
        let again: Vec<u64> =
            news(false).1.iter().map(|(to, group, ..)| u64::from(*to) * 100 + group).collect();
        assert_eq!(again, [302, 301, 301], "who was away is told again");
    }

    #[test]
    fn who_comes_back_is_told_of_leaders_out_of_reach() {
        let (view, mut told) = (view(), Told::default());
        let news = |leader| LeaderNews { term: Term(9), leader: Some(NodeId(leader)), in_sync: Vec::new() };
        view.heard_of_leader(GroupId(5), news(4), NodeId(4));
        view.heard_of_leader(GroupId(6), news(3), NodeId(3));
        let all = tell(&mut told, &view, false).1.news;
        assert_eq!(all, [(2, 5, 9, Some(4)), (3, 5, 9, Some(4))], "node 3 speaks for itself");
        view.heard_of_leader(GroupId(7), news(4), NodeId(4));
        assert_eq!(tell(&mut told, &view, false).1.news, [], "only when they come");
        view.set_liveness(NodeId(2), &LivenessChange::Down, Monotonic::ZERO);
        assert_eq!(tell(&mut told, &view, false).1.news, []);
        view.set_liveness(NodeId(2), &LivenessChange::Up, Monotonic::ZERO);
        tell(&mut told, &view, false);
        view.set_liveness(NodeId(3), &LivenessChange::Down, Monotonic::ZERO);
        let passed_on = tell(&mut told, &view, false).1.news;
        assert_eq!(passed_on, [(2, 6, 9, Some(3))], "node 3 may have gone before it told node 2");
    }

    #[test]
    fn what_is_closed_is_told_whole_and_again_when_it_changes() {
        let (view, mut told) = (view(), Told::default());
        assert_eq!(tell(&mut told, &view, false).1.closed, [(2, vec![]), (3, vec![])], "that nothing is");
        view.set_closed(GroupId(8), "its log is damaged".to_owned());
        assert_eq!(tell(&mut told, &view, true).1.closed, []);
        assert_eq!(tell(&mut told, &view, false).1.closed, [(2, vec![8]), (3, vec![8])]);
        assert_eq!(tell(&mut told, &view, false).1.closed, [], "once");
    }

    #[test]
    fn through_which_entry_the_metadata_is_known_is_told_when_it_changes() {
        let (view, mut told) = (view(), Told::default());
        assert_eq!(tell(&mut told, &view, false).1.applied, [(2, 0), (3, 0)]);
        let image = MetadataImage { applied: Index(4), ..MetadataImage::default() };
        view.set_image(Arc::new(image));
        assert_eq!(tell(&mut told, &view, true).1.applied, []);
        assert_eq!(tell(&mut told, &view, false).1.applied, [(2, 4), (3, 4)]);
        assert_eq!(tell(&mut told, &view, false).1.applied, [], "once");
    }
}
