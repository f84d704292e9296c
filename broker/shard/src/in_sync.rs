//! Which replicas of a partition are in sync, as its leader sees it: what Kafka calls the ISR. It is told and decides
//! nothing: what is committed is Raft's.
//!
//! A follower is in sync while its node answers and it held, at some moment of the last [`IN_SYNC_LAG_MAX`], all that its
//! leader's log held then (Kafka's `replica.lag.time.max.ms`). A new leader knows of none until they acknowledge; what it
//! has by the end of [`IN_SYNC_LOOK_INTERVAL`] is told.

use crate::group::{Body, Group, Stage, Turn};
use crate::limits::{IN_SYNC_LAG_MAX, IN_SYNC_LOOK_INTERVAL};
use crate::shard::Shard;
use crate::types::Effect;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use raftline_proto::ids::{GroupId, Index, NodeId, Term};
use raftline_proto::time::{Monotonic, Now};

/// What a leader remembers of its followers. Empty on every other replica.
#[derive(Debug, Default)]
pub(crate) struct InSync {
    /// The term that all of this is about, and when it was first looked at.
    since: Option<(Term, Monotonic)>,
    followers: BTreeMap<NodeId, Follower>,
    /// What was told last in this term.
    told: Option<Vec<NodeId>>,
}

#[derive(Clone, Copy, Debug)]
struct Follower {
    /// Where the leader's log ended at some moment, and that moment. Once the follower holds it, it was caught up then.
    mark: (Monotonic, Index),
    caught_up: Option<Monotonic>,
}

/// A follower at the time of a look.
pub(crate) struct Seen {
    pub node: NodeId,
    /// The last entry that it is known to have on stable storage.
    pub matched: Index,
    /// Whether its node answers.
    pub alive: bool,
}

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The replicas in sync, in the order of their numbers, if that is news.
    pub news: Option<Vec<NodeId>>,
    /// Whether nothing changes any more unless something happens to the group.
    pub settled: bool,
}

impl InSync {
    /// Looks at the followers of the leader `own`, whose log ends at `last`.
    pub fn look(
        &mut self,
        now: Monotonic,
        (own, term, last): (NodeId, Term, Index),
        followers: &[Seen],
    ) -> Found {
        let since = match self.since {
            Some((known, since)) if known == term => since,
            Some(_) | None => {
                *self = Self { since: Some((term, now)), ..Self::default() };
                now
            }
        };
        self.followers.retain(|node, _| followers.iter().any(|seen| seen.node == *node));
        let (mut in_sync, mut settled) = (BTreeSet::from([own]), true);
        for seen in followers {
            let known = Follower { mark: (now, last), caught_up: None };
            let follower = self.followers.entry(seen.node).or_insert(known);
            if seen.matched >= last {
                *follower = Follower { mark: (now, last), caught_up: Some(now) };
            } else {
                settled = false;
                if seen.matched >= follower.mark.1 {
                    *follower = Follower { mark: (now, last), caught_up: Some(follower.mark.0) };
                }
            }
            let recent = follower.caught_up.is_some_and(|at| now.since(at) <= IN_SYNC_LAG_MAX);
            if seen.alive && recent {
                in_sync.insert(seen.node);
            }
        }
        let complete = in_sync.len() > followers.len();
        // Those that hold everything say so within a moment of an election: until then the cluster goes by what was told
        // in the term before.
        let may_tell = complete || self.told.is_some() || now.since(since) >= IN_SYNC_LOOK_INTERVAL;
        let in_sync: Vec<NodeId> = in_sync.into_iter().collect();
        let news = (may_tell && self.told.as_ref() != Some(&in_sync)).then_some(in_sync);
        if let Some(news) = &news {
            self.told = Some(news.clone());
        }
        Found { news, settled: settled && self.told.is_some() }
    }

    /// Whether all of the `voters` were told to be in sync in this term.
    fn all_told(&self, term: Term, voters: usize) -> bool {
        self.since.is_some_and(|(known, _)| known == term)
            && self.told.as_ref().is_some_and(|told| told.len() == voters)
    }

    /// This replica leads no more.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Group {
    /// Whether a look can wait until the next one is due: all is as well as it can be. For each turn of a busy group.
    fn look_can_wait(&self, is_due_later: bool) -> bool {
        let (Stage::Open(raft), Body::Partition(partition)) = (&self.stage, &self.body) else { return false };
        let Some(term) = self.leading else { return partition.in_sync.since.is_none() };
        let voters = raft.membership().voters.len();
        partition.in_sync.all_told(term, voters)
            && (voters == 1 || (is_due_later && raft.peers().all(|peer| peer.alive)))
    }

    /// The leader of a partition looks at its followers. Returns whether it has to look again soon.
    fn look_in_sync<P>(&mut self, turn: &mut Turn<'_, P>) -> bool {
        let (Stage::Open(raft), Body::Partition(partition)) = (&self.stage, &mut self.body) else {
            return false;
        };
        let Some(term) = self.leading else {
            partition.in_sync.forget();
            return false;
        };
        let voters = &raft.membership().voters;
        let followers: Vec<Seen> = raft
            .peers()
            .filter(|peer| voters.contains(&peer.node))
            .map(|peer| Seen { node: peer.node, matched: peer.matched, alive: peer.alive })
            .collect();
        let end = (self.node, term, raft.last().index);
        let found = partition.in_sync.look(turn.now.monotonic, end, &followers);
        if let Some(nodes) = found.news {
            turn.effects.push(Effect::InSync { group: self.id, term, nodes });
        }
        !found.settled
    }
}

impl Shard {
    /// Looks at a group to which something happened.
    pub(crate) fn look_in_sync<P>(&mut self, now: Now, id: GroupId, effects: &mut Vec<Effect<P>>) {
        let is_due_later = self.timers.wants_look(id);
        if self.groups.get(&id).is_none_or(|group| group.look_can_wait(is_due_later)) {
            return;
        }
        let mut again = false;
        self.visit(now, id, effects, |group, turn| again = group.look_in_sync(turn));
        if again {
            self.timers.want_look(id, now.monotonic + IN_SYNC_LOOK_INTERVAL);
        }
    }

    /// Looks at the groups where something was missing at the last look.
    pub(crate) fn look_in_sync_again<P>(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        for id in self.timers.take_looks() {
            self.look_in_sync(now, id, effects);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn at(ms: u64) -> Monotonic {
        Monotonic::ZERO + Duration::from_millis(ms)
    }

    /// Looks as node 1, which leads `term`; of each of nodes 2 and 3 what it holds, and whether it answers. Returns who is
    /// told, and whether the look was the last.
    fn look(
        state: &mut InSync,
        ms: u64,
        term: u64,
        last: u64,
        followers: [(u64, bool); 2],
    ) -> (Option<Vec<u32>>, bool) {
        let seen = |(node, (matched, alive)): (u32, (u64, bool))| Seen {
            node: NodeId(node),
            matched: Index(matched),
            alive,
        };
        let followers: Vec<Seen> = (2..).zip(followers).map(seen).collect();
        let found = state.look(at(ms), (NodeId(1), Term(term), Index(last)), &followers);
        (found.news.map(|nodes| nodes.iter().map(|node| node.0).collect()), found.settled)
    }

    #[test]
    fn who_holds_all_is_in_sync_and_is_told_once() {
        let mut state = InSync::default();
        assert_eq!(
            look(&mut state, 0, 1, 9, [(0, true), (0, true)]),
            (None, false),
            "none has said anything"
        );
        assert_eq!(look(&mut state, 5, 1, 9, [(9, true), (0, true)]), (None, false), "one may yet");
        assert_eq!(
            look(&mut state, 6, 1, 9, [(9, true), (9, true)]),
            (Some(alloc::vec![1, 2, 3]), true),
            "at once when all do"
        );
        assert_eq!(look(&mut state, 7, 1, 9, [(9, true), (9, true)]), (None, true));
        assert_eq!(
            look(&mut state, 8, 1, 9, [(9, true), (9, false)]),
            (Some(alloc::vec![1, 2]), true),
            "its node is silent"
        );
        assert_eq!(look(&mut state, 9, 1, 9, [(9, true), (9, true)]), (Some(alloc::vec![1, 2, 3]), true));
    }

    #[test]
    fn a_follower_far_behind_a_new_leader_is_never_told() {
        let mut state = InSync::default();
        assert_eq!(look(&mut state, 0, 2, 1000, [(3, true), (1000, true)]).0, None);
        assert_eq!(look(&mut state, 1000, 2, 1000, [(400, true), (1000, true)]).0, Some(alloc::vec![1, 3]));
        assert_eq!(look(&mut state, 2000, 2, 1000, [(999, true), (1000, true)]), (None, false));
        assert_eq!(
            look(&mut state, 2500, 2, 1000, [(1000, true), (1000, true)]).0,
            Some(alloc::vec![1, 2, 3])
        );
    }

    #[test]
    fn a_follower_that_keeps_up_behind_a_busy_leader_stays_and_one_that_stops_goes_within_the_bound() {
        let mut state = InSync::default();
        look(&mut state, 0, 1, 0, [(0, true), (0, true)]);
        // Both are always three seconds behind.
        for second in 1..60 {
            let behind = u64::saturating_sub(second, 3) * 100;
            let (news, settled) =
                look(&mut state, second * 1000, 1, second * 100, [(behind, true), (behind, true)]);
            assert_eq!((news, settled), (None, false), "second {second}");
        }
        // Node 2 takes nothing any more.
        let mut gone = None;
        for second in 60..90 {
            let behind = (second - 3) * 100;
            if let (Some(news), _) =
                look(&mut state, second * 1000, 1, second * 100, [(5600, true), (behind, true)])
            {
                assert_eq!((news, gone), (alloc::vec![1, 3], None));
                gone = Some(second);
            }
        }
        let gone = gone.expect("it goes");
        assert!(gone - 56 <= 2 + IN_SYNC_LAG_MAX.as_secs(), "in second {gone}");
    }

    #[test]
    fn a_new_term_knows_nothing_of_the_one_before() {
        let mut state = InSync::default();
        look(&mut state, 0, 1, 9, [(9, true), (9, true)]);
        assert_eq!(look(&mut state, 100, 3, 9, [(0, true), (0, true)]), (None, false));
        assert_eq!(look(&mut state, 1100, 3, 9, [(0, true), (0, true)]).0, Some(alloc::vec![1]));
        state.forget();
        assert_eq!(look(&mut state, 1200, 3, 9, [(9, true), (9, true)]).0, Some(alloc::vec![1, 2, 3]));
    }
}
