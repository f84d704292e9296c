//! What must hold in every run, looked at in the disks and not only in the engine's own words.

use crate::support::disk::Stored;
use crate::support::replica::{Done, Replica};
use raftline_proto::ids::{EntryId, Index, NodeId, Term};
use raftline_raft::types::{Output, Role};
use std::collections::BTreeMap;

/// What the runs reached: a campaign that never reached a mark says nothing about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub events: u64,
    pub elections: u64,
    pub commits: u64,
    pub memory_commits: u64,
    pub commits_before_own_sync: u64,
    pub truncations: u64,
    pub resets: u64,
    pub failed_appends: u64,
    pub crashes: u64,
    pub transfers: u64,
    pub old_term_pending_at_election: u64,
    /// Runs with next to no commits.
    pub thin_runs: u64,
}

impl Marks {
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.elections += other.elections;
        self.commits += other.commits;
        self.memory_commits += other.memory_commits;
        self.commits_before_own_sync += other.commits_before_own_sync;
        self.truncations += other.truncations;
        self.resets += other.resets;
        self.failed_appends += other.failed_appends;
        self.crashes += other.crashes;
        self.transfers += other.transfers;
        self.old_term_pending_at_election += other.old_term_pending_at_election;
        self.thin_runs += other.thin_runs;
    }

    pub fn assert_reached(&self) {
        let marks = [
            self.elections,
            self.commits,
            self.memory_commits,
            self.commits_before_own_sync,
            self.truncations,
            self.resets,
            self.failed_appends,
            self.crashes,
            self.transfers,
            self.old_term_pending_at_election,
        ];
        assert!(marks.iter().all(|mark| *mark > 0), "a mark was never reached: {self:#?}");
    }
}

/// The history so far.
#[derive(Default)]
pub struct Checker {
    /// ELECT.
    leaders: BTreeMap<Term, NodeId>,
    /// ID-UNIQUE and LOG-MATCH: what an id names, and what comes before it.
    contents: BTreeMap<EntryId, (u64, EntryId)>,
    /// SM-SAFETY: what was committed, by index from 1.
    pub committed: Vec<EntryId>,
    pub marks: Marks,
}

impl Checker {
    pub fn committed_through(&self) -> Index {
        Index(u64::try_from(self.committed.len()).unwrap())
    }

    fn committed_at(&self, index: Index) -> EntryId {
        self.committed[usize::try_from(index.get() - 1).unwrap()]
    }

    /// After a batch of one replica; `taken` is how many entries came beside its message.
    pub fn after(&mut self, replica: &Replica, done: &Done, taken: usize, all: &[&Replica]) {
        self.marks.events += 1;
        for output in &done.outputs {
            match output {
                Output::Append(_) => self.contents(replica, 1),
                Output::Accept { .. } => self.contents(replica, taken),
                Output::Committed { through } => self.committed(replica, *through, all),
                Output::RoleChanged { role: Role::Leader, term, .. } => self.leader(replica, *term),
                Output::Alarm(alarm) => panic!("node {}: {alarm:?}", replica.config.node),
                Output::Truncate { .. } => self.marks.truncations += 1,
                Output::Reset { .. } => self.marks.resets += 1,
                Output::Received { through } => {
                    self.marks.memory_commits += 1;
                    assert!(*through <= replica.raft.last().index && *through >= replica.raft.commit());
                }
                Output::SaveHardState(_)
                | Output::Replicate { .. }
                | Output::Send { .. }
                | Output::Confirmed { .. }
                | Output::RoleChanged { .. }
                | Output::MembershipChanged(_) => {}
            }
        }
        for leader in all.iter().filter(|replica| replica.raft.role() == Role::Leader) {
            Self::matched(leader, all);
        }
    }

    /// ELECT, LEADER-COMP.
    fn leader(&mut self, replica: &Replica, term: Term) {
        let node = replica.config.node;
        self.marks.elections += 1;
        let known = *self.leaders.entry(term).or_insert(node);
        assert_eq!(known, node, "ELECT: two leaders in term {term}");
        let start = replica.disk.live.start.previous;
        for id in self.committed.iter().filter(|id| id.index > start.index) {
            assert!(replica.disk.live.holds(*id), "LEADER-COMP: node {node} leads {term} without {id}");
        }
        if start.index > Index::ZERO {
            assert_eq!(self.committed_at(start.index), start, "a log starts after something uncommitted");
        }
        let before = replica.disk.live.last().index.get().saturating_sub(1);
        if before > self.committed_through().get() {
            self.marks.old_term_pending_at_election += 1;
        }
    }

    fn contents(&mut self, replica: &Replica, count: usize) {
        let log = &replica.disk.live;
        for (place, Stored { entry, value }) in log.entries.iter().enumerate().rev().take(count) {
            let previous = match place.checked_sub(1) {
                Some(before) => log.entries[before].entry.id,
                None => log.start.previous,
            };
            let content = (*value, previous);
            let known = *self.contents.entry(entry.id).or_insert(content);
            assert_eq!(
                known, content,
                "ID-UNIQUE, LOG-MATCH: entry {} of node {}",
                entry.id, replica.config.node
            );
        }
    }

    /// QUORUM-DUR, SM-SAFETY.
    fn committed(&mut self, replica: &Replica, through: Index, all: &[&Replica]) {
        let node = replica.config.node;
        let log = &replica.disk.live;
        if replica.raft.durable() < through && replica.raft.role() == Role::Leader {
            self.marks.commits_before_own_sync += 1;
        }
        let first = log.start.previous.index.next();
        let mut index = first;
        while index <= through {
            let id =
                log.get(index).unwrap_or_else(|| panic!("node {node} commits {index} without it")).entry.id;
            if index <= self.committed_through() {
                assert_eq!(self.committed_at(index), id, "SM-SAFETY: node {node} at {index}");
            } else {
                let membership = replica.raft.membership();
                let holders = all.iter().filter(|other| {
                    membership.is_voter(other.config.node)
                        && (other.disk.durable.holds(id) || other.disk.durable.start.previous.index >= index)
                });
                let count = holders.count();
                assert!(count >= membership.quorum(), "QUORUM-DUR: {id} is committed and durable on {count}");
                self.committed.push(id);
                self.marks.commits += 1;
            }
            index = index.next();
        }
        assert!(through <= self.committed_through(), "node {node} commits {through}, nobody else did");
    }

    /// MATCH: what a leader counts as durable on a peer is on that peer's disk, as long as the peer is in its term.
    fn matched(leader: &Replica, all: &[&Replica]) {
        for view in leader.raft.peers() {
            let Some(peer) = all.iter().find(|peer| peer.config.node == view.node) else { continue };
            let terms = peer.raft.term().max(peer.disk.hard_state.term);
            if terms > leader.raft.term() || view.matched <= peer.disk.durable.start.previous.index {
                continue;
            }
            if let Some(id) = leader.raft.id_at(view.matched) {
                assert!(
                    peer.disk.durable.holds(id),
                    "MATCH: leader {} counts {id} on {}, which ends at {}",
                    leader.config.node,
                    view.node,
                    peer.disk.durable.last()
                );
            }
        }
    }
}
