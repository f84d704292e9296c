//! Who leads what, as far as this node knows: what its own replicas say, and what the peers tell.
//!
//! Of two that speak of one group, the later term is right. Within a term, a leader that says that it leads no more is
//! right, for none leads twice in one. So what is told here of a group never goes back to an earlier term for as long as
//! the process runs.

use crate::payload::LeaderNews;
use crate::view::GroupLeader;
use raftline_proto::ids::{GroupId, NodeId, Term};
use raftline_raft::types::Role;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What is known, by where it comes from.
#[derive(Debug, Default)]
pub(crate) struct Leaderships {
    /// Of groups with a replica here, as that replica knows.
    own: HashMap<GroupId, GroupLeader>,
    /// As the peers told.
    heard: HashMap<GroupId, LeaderNews>,
    /// The replicas in sync of what is led here, and the term in which that was found.
    in_sync: HashMap<GroupId, (Term, Vec<NodeId>)>,
    /// What the peers are to be told of: for each group that is or was led here, the number of its last change.
    changed_at: HashMap<GroupId, u64>,
    changes: BTreeMap<u64, GroupId>,
    change: u64,
    /// Groups that have had a leader since they are here, or that were waited for long enough.
    settled: BTreeSet<GroupId>,
}

impl Leaderships {
    /// What is known of the group's leader; `None` if nothing was heard since the start.
    pub fn leader(&self, group: GroupId) -> Option<GroupLeader> {
        let heard = self.heard.get(&group).map(|news| GroupLeader {
            term: news.term,
            leader: news.leader,
            role: Role::Follower,
        });
        match (self.own.get(&group).copied(), heard) {
            // An open replica that knows of no leader in its term knows more than what was told before: that one is silent.
            (Some(own), Some(heard)) if heard.term > own.term => Some(heard),
            (own, heard) => own.or(heard),
        }
    }

    /// The last one that said it leads the group, and its term, although it may be silent now.
    pub fn last_leader(&self, group: GroupId) -> Option<NodeId> {
        let heard = self.heard.get(&group)?;
        heard.leader.filter(|_| self.own.get(&group).is_none_or(|own| own.term <= heard.term))
    }

    /// The replicas in sync, as the last leader that is known of saw them. `None` if none has said so yet.
    pub fn in_sync(&self, group: GroupId) -> Option<&[NodeId]> {
        let own = self.in_sync.get(&group).map(|(term, nodes)| (*term, nodes.as_slice()));
        let heard = self.heard.get(&group).map(|news| (news.term, news.in_sync.as_slice()));
        let known = own.into_iter().chain(heard).filter(|(_, nodes)| !nodes.is_empty());
        known.max_by_key(|(term, _)| *term).map(|(_, nodes)| nodes)
    }

    /// Whether the group may get its first leader any moment: it has had none that was heard of since it is here.
    pub fn may_get_first(&self, group: GroupId) -> bool {
        !self.settled.contains(&group)
    }

    /// The group was waited for long enough: it may have no leader for long.
    pub fn waited_for(&mut self, group: GroupId) {
        self.settled.insert(group);
    }

    /// The replica here found something out.
    pub fn set_own(&mut self, group: GroupId, found: GroupLeader) {
        let before = self.own.insert(group, found);
        if found.leader.is_some() {
            self.settled.insert(group);
        }
        let led = |known: &GroupLeader| known.role == Role::Leader;
        if led(&found) || before.as_ref().is_some_and(led) {
            self.note_change(group);
        }
    }

    /// The replica here was closed: it hears nothing any more.
    pub fn close_own(&mut self, group: GroupId) {
        if let Some(own) = self.own.remove(&group) {
            // What it knew is kept as if it had been told, for the sake of the term.
            let news = LeaderNews { term: own.term, leader: None, in_sync: Vec::new() };
            self.take_in(group, news, None);
        }
    }

    /// The replica here leads in this term, and these are in sync.
    pub fn set_in_sync(&mut self, group: GroupId, term: Term, nodes: Vec<NodeId>) {
        self.in_sync.insert(group, (term, nodes));
        self.note_change(group);
    }

    /// A peer told; returns whether anything is new.
    pub fn hear(&mut self, group: GroupId, news: LeaderNews, from: NodeId) -> bool {
        self.take_in(group, news, Some(from))
    }

    fn take_in(&mut self, group: GroupId, mut news: LeaderNews, from: Option<NodeId>) -> bool {
        if let Some(known) = self.heard.get(&group) {
            let is_of_leader = from.is_some() && (from == news.leader || from == known.leader);
            let is_late = news.term < known.term || (news.term == known.term && !is_of_leader);
            if is_late || news == *known {
                return false;
            }
            if news.in_sync.is_empty() {
                news.in_sync.clone_from(&known.in_sync);
            }
        }
        if news.leader.is_some() {
            self.settled.insert(group);
        }
        self.heard.insert(group, news);
        true
    }

    /// How many groups peers told of.
    pub fn heard_count(&self) -> usize {
        self.heard.len()
    }

    /// Forgets what was told of all other groups.
    pub fn retain_heard(&mut self, there: &BTreeSet<GroupId>) {
        self.heard.retain(|group, _| there.contains(group));
        self.settled.retain(|group| there.contains(group) || self.own.contains_key(group));
    }

    /// The group was deleted here.
    pub fn remove(&mut self, group: GroupId) {
        self.own.remove(&group);
        self.heard.remove(&group);
        self.in_sync.remove(&group);
        self.settled.remove(&group);
        if let Some(change) = self.changed_at.remove(&group) {
            self.changes.remove(&change);
        }
    }

    /// What peers are to be told that know everything through change `after`: each with the number of its change, in
    /// their order.
    pub fn news(&self, after: u64) -> impl Iterator<Item = (u64, GroupId, LeaderNews)> + '_ {
        let later = self.changes.range(after.saturating_add(1)..);
        later.filter_map(|(change, group)| Some((*change, *group, self.news_of(*group)?)))
    }

    /// What this node can tell of a group.
    pub fn news_of(&self, group: GroupId) -> Option<LeaderNews> {
        let known = self.leader(group)?;
        let in_sync = self.in_sync(group).unwrap_or_default().to_vec();
        Some(LeaderNews { term: known.term, leader: known.leader, in_sync })
    }

    /// The groups of which something is known.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        let heard = self.heard.keys().filter(|group| !self.own.contains_key(group));
        self.own.keys().chain(heard).copied()
    }

    fn note_change(&mut self, group: GroupId) {
        self.change += 1;
        if let Some(before) = self.changed_at.insert(group, self.change) {
            self.changes.remove(&before);
        }
        self.changes.insert(self.change, group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(7);

    fn own(term: u64, leader: Option<u32>, role: Role) -> GroupLeader {
        GroupLeader { term: Term(term), leader: leader.map(NodeId), role }
    }

    fn news(term: u64, leader: Option<u32>, in_sync: &[u32]) -> LeaderNews {
        let in_sync = in_sync.iter().copied().map(NodeId).collect();
        LeaderNews { term: Term(term), leader: leader.map(NodeId), in_sync }
    }

    /// The term, the leader and the replicas in sync that are told of.
    fn told(known: &Leaderships) -> (u64, Option<u32>, Vec<u32>) {
        let leader = known.leader(GROUP).unwrap();
        let in_sync = known.in_sync(GROUP).unwrap_or_default();
        (leader.term.0, leader.leader.map(|node| node.0), in_sync.iter().map(|node| node.0).collect())
    }

    #[test]
    fn a_later_term_wins_and_an_earlier_one_changes_nothing() {
        let mut known = Leaderships::default();
        assert_eq!(known.leader(GROUP), None);
        assert!(known.hear(GROUP, news(4, Some(2), &[2, 3]), NodeId(2)));
        assert_eq!(told(&known), (4, Some(2), vec![2, 3]));
        assert!(!known.hear(GROUP, news(3, Some(3), &[3]), NodeId(3)));
        assert!(!known.hear(GROUP, news(4, Some(2), &[2, 3]), NodeId(2)), "known already");
        known.set_own(GROUP, own(3, None, Role::Follower));
        assert_eq!(told(&known).0, 4, "a replica that is behind");
        known.set_own(GROUP, own(5, None, Role::Follower));
        assert_eq!(told(&known), (5, None, vec![2, 3]), "who was in sync is kept");
        known.hear(GROUP, news(6, Some(3), &[3]), NodeId(3));
        assert_eq!(told(&known), (6, Some(3), vec![3]));
    }

    #[test]
    fn who_leads_no_more_is_believed_and_nobody_else_about_it() {
        let mut known = Leaderships::default();
        known.hear(GROUP, news(4, Some(2), &[2]), NodeId(2));
        assert!(!known.hear(GROUP, news(4, None, &[]), NodeId(3)), "it may not know");
        assert!(known.hear(GROUP, news(4, None, &[]), NodeId(2)));
        assert_eq!(told(&known), (4, None, vec![2]));
        assert!(!known.hear(GROUP, news(4, Some(2), &[2]), NodeId(3)), "what another one heard before");
    }

    #[test]
    fn a_closed_replica_is_told_by_others_and_keeps_its_term() {
        let mut known = Leaderships::default();
        known.set_own(GROUP, own(8, Some(1), Role::Leader));
        known.close_own(GROUP);
        assert_eq!(told(&known), (8, None, vec![]));
        assert!(!known.hear(GROUP, news(7, Some(3), &[]), NodeId(3)), "from before");
        assert!(
            known.hear(GROUP, news(8, Some(2), &[2]), NodeId(2)),
            "it took part in the term of another one"
        );
        assert_eq!(told(&known), (8, Some(2), vec![2]));
    }

    #[test]
    fn each_change_is_news_once_and_in_order() {
        let mut known = Leaderships::default();
        let news_after = |known: &Leaderships, after| {
            known
                .news(after)
                .map(|(change, group, news)| (change, group.0, news.leader.map(|node| node.0)))
                .collect::<Vec<_>>()
        };
        known.set_own(GROUP, own(1, Some(2), Role::Follower));
        assert_eq!(news_after(&known, 0), [], "others speak for what they lead");
        known.set_own(GROUP, own(2, Some(1), Role::Leader));
        known.set_own(GroupId(8), own(2, Some(1), Role::Leader));
        assert_eq!(news_after(&known, 0), [(1, 7, Some(1)), (2, 8, Some(1))]);
        known.set_in_sync(GROUP, Term(2), vec![NodeId(1)]);
        assert_eq!(news_after(&known, 1), [(2, 8, Some(1)), (3, 7, Some(1))]);
        known.set_own(GROUP, own(2, None, Role::Follower));
        assert_eq!(news_after(&known, 3), [(4, 7, None)], "that it leads no more");
        known.remove(GROUP);
        assert_eq!(news_after(&known, 0), [(2, 8, Some(1))]);
    }
}
