//! What the checkers are shown of a turn: what was cut, appended and committed, and who was elected.

use std::collections::BTreeSet;

use raftline_broker::payload::Payload;
use raftline_proto::ids::{GroupId, Index, NodeId, Term};
use raftline_raft::types::Role;
use raftline_shard::types::{Effect, Event, GroupDescription, Reply, RequestId};

use super::World;
use super::watch::View;
use crate::sim::facts::{Digest, Fact, Life};
use crate::sim::marks::Mark;
use crate::sim::trace::Place;

/// Asks for a description from outside of all clients' requests.
const PROBE: RequestId = RequestId(u64::MAX);

impl World {
    /// Looks at a turn's events before the shard does.
    pub(super) fn before_events(
        &mut self,
        life: Life,
        shard: usize,
        events: &[Event<Payload>],
        touched: &mut BTreeSet<GroupId>,
    ) {
        for event in events {
            let group = match event {
                Event::Opened { group, recovered } => {
                    self.reopened(life, shard, *group, recovered.last, recovered.hard_state);
                    group
                }
                Event::Peer { group, .. }
                | Event::LogDurable { group, .. }
                | Event::AppendFailed { group, .. }
                | Event::Trimmed { group, .. }
                | Event::HardStateDurable { group, .. } => group,
                _ => continue,
            };
            touched.insert(*group);
        }
    }

    fn reopened(
        &mut self,
        life: Life,
        shard: usize,
        group: GroupId,
        last: raftline_proto::ids::EntryId,
        hard_state: raftline_proto::ids::HardState,
    ) {
        if self.users.is_gone(group) {
            return;
        }
        self.trace(Place::at(life.node, group), "opened", last.index.0, || {
            format!("through {last}, {hard_state:?}")
        });
        self.judge.fact(&Fact::Reopened { life, group, last, hard_state });
        self.show_begins(life, shard, group);
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        let Some(log) = unit.executor.log(group) else { return };
        let torn = log.recovery().bytes_cut > 0;
        unit.groups.insert(group, ());
        let start = log.start().0;
        self.views.insert((life.node, group), View::new(life, start));
        if torn {
            self.mark(Mark::TornTailCut);
        }
        self.refresh(life, shard, group);
        self.show_held(life, shard, group);
    }

    /// What the turn's effects are about to cut, judged by what was known committed before the turn.
    pub(super) fn report_cuts(&mut self, life: Life, effects: &[Effect<Payload>]) {
        for effect in effects {
            match effect {
                Effect::Truncate { group, from } => {
                    let Some(view) = self.views.get_mut(&(life.node, *group)) else { continue };
                    let commit = view.commit;
                    view.truncate(*from);
                    self.trace(Place::at(life.node, *group), "truncate", from.0, || format!("from {from}"));
                    self.judge.fact(&Fact::Truncated { life, group: *group, from: *from, commit });
                    self.mark(Mark::FollowerTruncates);
                }
                Effect::Reset { group, .. } if self.users.is_gone(*group) => {}
                Effect::Reset { group, start } => {
                    self.views.insert((life.node, *group), View::new(life, start.previous));
                    let start = start.previous;
                    self.judge.fact(&Fact::Reset { life, group: *group, start });
                    self.mark(Mark::BegunAnew);
                }
                _ => {}
            }
        }
    }

    /// The end of a turn: what the logs hold now, who leads, what is committed.
    pub(super) fn report_turn(&mut self, life: Life, shard: usize, touched: &BTreeSet<GroupId>) {
        for group in touched {
            self.refresh(life, shard, *group);
            self.report_commit(life, shard, *group);
        }
    }

    /// What is committed, as far as the logs were read.
    pub(super) fn report_commits(&mut self, life: Life, shard: usize, touched: &BTreeSet<GroupId>) {
        for group in touched {
            self.report_commit(life, shard, *group);
        }
    }

    /// Reads a log's new entries and reports them.
    pub(super) fn refresh(&mut self, life: Life, shard: usize, group: GroupId) {
        let Some(node) = self.nodes.get_mut(&life.node) else { return };
        let Some(log) = node.unit(life, shard).and_then(|unit| unit.executor.log(group)) else { return };
        let Some(view) = self.views.get_mut(&(life.node, group)) else { return };
        let added = match view.refresh(log) {
            Ok(added) => added,
            Err(reason) => {
                self.unreadable(life, group, &reason);
                return;
            }
        };
        let first = view.entries.len() - added;
        let mut previous = first.checked_sub(1).map_or(view.start, |before| view.entries[before].id());
        for entry in &view.entries[first..] {
            self.judge.fact(&Fact::Appended { life, group, previous, entry });
            previous = entry.id();
        }
    }

    fn report_commit(&mut self, life: Life, shard: usize, group: GroupId) {
        let Some(described) = self.describe(life, shard, group) else { return };
        let Some(view) = self.views.get_mut(&(life.node, group)) else { return };
        view.voters.clone_from(&described.membership.voters);
        if described.role == Role::Leader && described.term > view.elected {
            self.elected(life, group, described.term);
            self.show_producers(life, shard, group, described.term);
        }
        self.committed(life, group, (described.role, described.term), described.commit);
        let high_watermark = described.high_watermark;
        if self.views.get(&(life.node, group)).is_some_and(|view| view.commit == described.commit) {
            self.judge.fact(&Fact::Watermark { life, group, high_watermark });
        }
    }

    fn elected(&mut self, life: Life, group: GroupId, term: Term) {
        let Some(view) = self.views.get_mut(&(life.node, group)) else { return };
        view.elected = term;
        view.leads = true;
        let own = view.entries.partition_point(|entry| entry.id().term < term);
        let log = &view.entries[..own];
        let voters = &view.voters;
        self.judge.fact(&Fact::Elected { life, group, term, log, log_start: view.start, voters });
        let committed = self.judge.checks.ledger().last(group);
        if log.last().is_some_and(|last| last.id().index > committed) {
            self.judge.marks.hit(Mark::OldTermPendingAtElection);
        }
        self.counts.elections += 1;
        self.shorten_reign(life, group);
        self.trace(Place::at(life.node, group), "elected", term.0, || format!("leads in term {term}"));
    }

    /// Shows the checkers what a replica knows of idempotent producers.
    pub(super) fn show_producers(&mut self, life: Life, shard: usize, group: GroupId, term: Term) {
        let Some(unit) = self.nodes.get_mut(&life.node).and_then(|node| node.unit(life, shard)) else {
            return;
        };
        let next = unit.shard.producers(group);
        self.judge.fact(&Fact::Producers { life, group, term, next: &next });
    }

    fn committed(&mut self, life: Life, group: GroupId, (role, term): (Role, Term), commit: Index) {
        let Some(view) = self.views.get(&(life.node, group)) else { return };
        let through = commit.min(view.last().index);
        if through <= view.commit {
            return;
        }
        let from = view.commit.next();
        let known = self.judge.checks.ledger().last(group);
        let fresh: Vec<Digest> = view.range(known.next(), through.next()).to_vec();
        let entries: Vec<Digest> = view.range(from, through.next()).to_vec();
        let voters = view.voters.clone();
        if !fresh.is_empty() {
            let holders = self.holders(group, &voters, &fresh);
            let without_leader = holders.iter().any(|held_by| !held_by.contains(&life.node));
            if without_leader {
                self.mark(Mark::CommitBeforeLeaderSync);
            }
            let is_commit_index = role == Role::Leader && through == commit;
            let (entries, voters, holders) = (&fresh[..], &voters[..], &holders[..]);
            self.judge.fact(&Fact::FirstCommitted { group, term, is_commit_index, entries, voters, holders });
        }
        self.judge.fact(&Fact::Committed { life, group, term, entries: &entries });
        if let Some(view) = self.views.get_mut(&(life.node, group)) {
            view.commit = through;
        }
        self.trace(Place::at(life.node, group), "commit", through.0, || format!("through {through}"));
    }

    /// For each entry, the voters whose disk would still have it after a power cut now.
    fn holders(&mut self, group: GroupId, voters: &[NodeId], entries: &[Digest]) -> Vec<Vec<NodeId>> {
        let mut holders = vec![Vec::new(); entries.len()];
        let rolls = self.durable.rolls();
        for voter in voters {
            let Some(node) = self.nodes.get(voter) else { continue };
            let log = self.durable.log(node, group);
            for (entry, held_by) in entries.iter().zip(&mut holders) {
                if log.holds(entry) {
                    held_by.push(*voter);
                }
            }
        }
        if self.durable.rolls() > rolls {
            self.judge.marks.hit(Mark::SegmentRolled);
        }
        holders
    }

    /// A group's state, as the shard itself describes it.
    pub(super) fn describe(&mut self, life: Life, shard: usize, group: GroupId) -> Option<GroupDescription> {
        let now = self.heap.now();
        let node = self.nodes.get_mut(&life.node)?;
        let clocks = node.clocks(now);
        let unit = node.unit(life, shard)?;
        let mut effects: Vec<Effect<Payload>> = Vec::new();
        unit.shard.handle(clocks, Event::Describe { request: PROBE, group }, &mut effects);
        effects.into_iter().find_map(|effect| match effect {
            Effect::Reply { reply: Reply::Described(described), .. } => described,
            _ => None,
        })
    }
}
