//! The group coordinator: members of consumer groups, their assignments and committed offsets, as a pure state
//! machine. It does what Kafka's does for one partition of `__consumer_offsets`.
//!
//! [`Groups`] is driven by the replica of one partition of an internal, key-compacted topic. The driver:
//!
//! 1. gives every *committed* record, in log order, to [`Groups::apply`], on every replica;
//! 2. calls [`Groups::lead`] once its replica leads *and* has applied everything that was in the log when it began to,
//!    and [`Groups::follow`] when it leads no more, in every term anew;
//! 3. tells the cluster's topics with [`Groups::topics_changed`] (on every replica), gives requests to [`Groups::handle`] and the time to [`Groups::tick`];
//! 4. does what the outputs say, in order. An append that was surely not made (no room), and with it all later ones, it
//!    answers with [`Groups::refused`]; one that it does not know the outcome of with `follow`, and it may `lead` again once
//!    all that it did append is applied. Nothing else is ever appended.
//!
//! # What is visible when
//!
//! Nothing is told that may still be lost; what waits for a commit waits in here (`log`), with a deadline.
//!
//! * A committed offset is visible to OffsetFetch once its record is applied, and is acknowledged then.
//! * A classic group's members and sessions live in the leader's memory only. A generation becomes stable, and
//!   SyncGroup is answered, once the record with its assignment is applied. Generations without one die with the
//!   leader (Kafka's rule): members get `ILLEGAL_GENERATION` or `UNKNOWN_MEMBER_ID` and join again.
//! * A group of the new protocol is planned ahead: records are made from the state as it will be once all that is
//!   appended is committed, and every answer waits for everything appended before it.
//!
//! A deposed leader that has not noticed would serve old offsets: the driver lets requests in only while it may serve
//! linearizable reads (a lease, or a read index).
//!
//! # Where it differs from Kafka
//!
//! * A request that a later one of the same member supersedes is answered (`REBALANCE_IN_PROGRESS`); Kafka drops it.
//! * Offsets expire in groups without members only; Kafka also lets those go that a live group's members no longer
//!   subscribe to. An emptied group of the new protocol keeps its offsets for the whole retention from then on.
//! * What a regular expression matches is told in the answer to the heartbeat that brings it; Kafka looks in the
//!   background, and tells it with a later one. If topics are named beside a new expression, these come first, as there.
//!   Topics that come in a burst are followed at once and then after two heartbeat intervals; in Kafka, after ten
//!   seconds. The syntax is that of Rust's `regex` for ASCII; Kafka's is RE2/J's. Internal topics are matched like
//!   others, as in Kafka.
//! * Of partitions that nobody has, the uniform assignor gives each to whoever has least; Kafka's fills member after
//!   member. Where all read the same topics, shares differ by one at most, and a member keeps its first partitions, in
//!   both.
//! * Racks are kept and shown, and do not decide assignments.
//! * What has no bound in Kafka has one here ([`limits`]).
//!
//! A group changes its protocol while its members live, as in Kafka from 4.0 on: it becomes one of the new protocol when a
//! consumer of that joins, in which members of the classic one go on; and a classic one when the last of the others goes
//! ([`limits::MigrationPolicy`]). So consumers change it by a rolling restart, and change it back by another one.
//!
//! A commit may cross a heartbeat: in an older epoch it is taken for partitions that the member has had since then, as in
//! Kafka from 4.3 on (KIP-1251). A leader reads that from the log; records of earlier versions do not say it, and the
//! commit is refused then (`STALE_MEMBER_EPOCH`).
//!
//! As in Kafka, a member of the new protocol whose answer was lost must not carry out what an *earlier* answer told
//! it: it heartbeats with everything it owns, and is told anew.
//!
//! In reading order: [`types`] (requests, answers), [`record`] with [`codec`] (what is written), `store` (what
//! committed records say), `log` (what is under way), `classic`, `consumer` with `assignor`, `expressions` with
//! `expression`, `offsets`, `admin`, `expiry`, `refused`, `checks`, [`limits`].

pub mod codec;
pub mod limits;
pub mod record;
pub mod types;

mod admin;
mod assignor;
mod checks;
mod classic;
mod consumer;
mod expiry;
mod expression;
mod expressions;
mod leading;
mod log;
mod names;
mod offsets;
mod refused;
mod store;
mod subscription;

#[cfg(test)]
mod testing;

pub use names::coordinator_partition;

use crate::types::RequestId;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use consumer::{Topics, TopicsChange};
use leading::{Lead, Leading};
use limits::GroupsConfig;
use log::{After, Turn};
use raftline_proto::time::{Monotonic, Now};
use record::GroupRecord;
use store::Store;
use types::{GroupError, GroupRequest, Output, TopicImage};

/// All groups of one coordinator partition.
#[derive(Debug)]
pub struct Groups {
    config: GroupsConfig,
    /// What committed records say: equal on replicas that applied the same ones.
    store: Store,
    /// `None` until [`Groups::topics_changed`] has told.
    topics: Option<Topics>,
    /// `Some` exactly while this replica leads.
    lead: Option<Lead>,
}

impl Groups {
    /// A replica that has applied nothing and does not lead.
    #[must_use]
    pub fn new(config: GroupsConfig) -> Self {
        Self { config, store: Store::default(), topics: None, lead: None }
    }

    /// A committed record. Records of one key hold in log order, whatever else was compacted away. On the leader,
    /// requests that waited for it are answered.
    pub fn apply(&mut self, now: Now, record: &GroupRecord, outputs: &mut Vec<Output>) {
        self.store.apply(record);
        let Some(lead) = &mut self.lead else { return };
        if !lead.log.applied(record) {
            return;
        }
        while let Some(after) = lead.log.take_ready() {
            match after {
                After::Respond { request, group: _, response } => {
                    outputs.push(Output::Respond { request, answer: Ok(response) });
                }
                After::Synced { group, generation } => {
                    let turn = &mut Turn { now, config: &self.config, log: &mut lead.log, outputs };
                    if let Some(group) = lead.groups.classic(&group) {
                        group.synced(generation, turn);
                    }
                    lead.groups.rearm(&group);
                }
            }
        }
    }

    /// This replica leads now. Every member's session begins anew; groups of the new protocol whose topics changed
    /// since their last epoch get another one.
    ///
    /// # Panics
    /// If it leads already.
    pub fn lead(&mut self, now: Now, outputs: &mut Vec<Output>) {
        assert!(self.lead.is_none(), "a leader begins to lead");
        self.lead = Some(Lead::load(&self.store, &self.config, now));
        if let Some(leading) = self.leading(now, outputs) {
            leading.follow_topics(TopicsChange::Came);
        }
    }

    /// The cluster's topics, all of them, after a change and once at the start; on every replica. Until then the new
    /// protocol is refused as "loading". Offsets of topics that go while this replica leads go with them (a topic
    /// made again has another id, and its offsets begin anew).
    pub fn topics_changed(
        &mut self,
        now: Now,
        topics: &BTreeMap<String, TopicImage>,
        outputs: &mut Vec<Output>,
    ) {
        let earlier = self.topics.replace(topics.clone()).unwrap_or_default();
        let is_gone =
            |name: &String, topic: &TopicImage| topics.get(name).is_none_or(|now| now.id != topic.id);
        let gone: BTreeSet<String> = earlier
            .iter()
            .filter(|(name, topic)| is_gone(name, topic))
            .map(|(name, _)| name.clone())
            .collect();
        if let Some(lead) = &mut self.lead {
            lead.expressions.forget_matches();
        }
        if let Some(mut leading) = self.leading(now, outputs) {
            let change = if gone.is_empty() { TopicsChange::Came } else { TopicsChange::Went };
            if change == TopicsChange::Went {
                leading.forget_topics(&gone);
            }
            leading.follow_topics(change);
        }
    }

    /// This replica leads no more, or cannot append: everybody who waits is told `NOT_COORDINATOR`.
    pub fn follow(&mut self, outputs: &mut Vec<Output>) {
        let Some(mut lead) = self.lead.take() else { return };
        let withheld = lead.log.take_all().into_iter().filter_map(|after| match after {
            After::Respond { request, .. } => Some(request),
            After::Synced { .. } => None,
        });
        for request in withheld.chain(lead.groups.take_waiting()) {
            outputs.push(Output::Respond { request, answer: Err(GroupError::NotCoordinator) });
        }
    }

    /// A request. It is answered exactly once: now or, at the latest, at a deadline.
    pub fn handle(&mut self, now: Now, id: RequestId, request: GroupRequest, outputs: &mut Vec<Output>) {
        let Some(lead) = &mut self.lead else {
            outputs.push(Output::Respond { request: id, answer: Err(GroupError::NotCoordinator) });
            return;
        };
        let checked = checks::check(&request, &self.config).and_then(|()| {
            let full = lead.log.withheld() >= limits::WITHHELD_MAX;
            if full { Err(GroupError::CoordinatorLoadInProgress) } else { Ok(()) }
        });
        if let Err(error) = checked {
            outputs.push(Output::Respond { request: id, answer: Err(error) });
            return;
        }
        if let Some(leading) = self.leading(now, outputs) {
            leading.handle(id, request);
        }
    }

    /// What is due by now: sessions, rebalances, answers that wait for too long, offsets that are too old.
    pub fn tick(&mut self, now: Now, outputs: &mut Vec<Output>) {
        let Some(lead) = &mut self.lead else { return };
        while let Some(after) = lead.log.take_overdue(now.monotonic) {
            match after {
                After::Respond { request, .. } => {
                    let answer = Err(GroupError::CoordinatorNotAvailable);
                    outputs.push(Output::Respond { request, answer });
                }
                After::Synced { group, generation } => {
                    let turn = &mut Turn { now, config: &self.config, log: &mut lead.log, outputs };
                    if let Some(group) = lead.groups.classic(&group) {
                        group.sync_failed(generation, turn);
                    }
                    lead.groups.rearm(&group);
                }
            }
        }
        let cleans_up = lead.cleanup_at <= now.monotonic;
        let Some(mut leading) = self.leading(now, outputs) else { return };
        leading.tick_groups();
        if cleans_up {
            let more = leading.expire();
            let next = if more { EXPIRY_PAUSE } else { self.config.offsets_check_interval };
            if let Some(lead) = &mut self.lead {
                lead.cleanup_at = now.monotonic + next;
            }
        }
    }

    /// When [`Groups::tick`] is to be called; `None` if nothing can become due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let lead = self.lead.as_ref()?;
        let idle = lead.groups.is_empty() && self.store.offsets.is_empty();
        let cleanup = (!idle).then_some(lead.cleanup_at);
        lead.log.deadline().into_iter().chain(lead.groups.deadline()).chain(cleanup).min()
    }

    /// The committed state as records, one a key: what a snapshot holds, and what compaction may leave of the log. A
    /// new replica that applies them is as this one.
    pub fn records(&self) -> impl Iterator<Item = GroupRecord> + '_ {
        self.store.records()
    }

    /// What moves records over that are committed in the layout of an earlier version, under these keys: batches to append
    /// before anything else, each of which leaves the state as it is.
    #[must_use]
    pub fn moved(
        &self,
        earlier: &BTreeSet<Vec<u8>>,
        topic_id: codec::TopicIds<'_>,
    ) -> Vec<Vec<codec::KeyValue>> {
        codec::earlier::moved(self.store.records(), earlier, topic_id)
    }

    /// Whether both have the same committed state.
    #[must_use]
    pub fn same_state(&self, other: &Self) -> bool {
        self.store == other.store
    }

    fn leading<'a>(&'a mut self, now: Now, outputs: &'a mut Vec<Output>) -> Option<Leading<'a>> {
        let lead = self.lead.as_mut()?;
        let turn = Turn { now, config: &self.config, log: &mut lead.log, outputs };
        let topics = self.topics.as_ref();
        let (groups, expressions) = (&mut lead.groups, &mut lead.expressions);
        Some(Leading { store: &self.store, topics, groups, expressions, turn })
    }
}

/// Between two steps of an expiry that has more to do than one append may hold.
const EXPIRY_PAUSE: core::time::Duration = core::time::Duration::from_secs(1);
