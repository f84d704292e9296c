//! The group coordinator: members of consumer groups, their assignments and committed offsets, as a pure state
//! machine. It does what Kafka's does for one partition of `__consumer_offsets`.
//!
//! [`Groups`] is driven by the replica of one partition of an internal, key-compacted topic. The driver:
//!
//! 1. gives every *committed* record, in log order, to [`Groups::apply`], on every replica;
//! 2. calls [`Groups::lead`] once its replica leads *and* has applied everything that was in the log when it began to,
//!    and [`Groups::follow`] when it leads no more;
//! 3. gives requests to [`Groups::handle`] and the time to [`Groups::tick`];
//! 4. does what the outputs say, in order. An append that it cannot make (log full, leadership lost) it answers with
//!    `follow`; it may `lead` again once all that it did append is applied. While it leads, it appends nothing else.
//!
//! # What is visible when
//!
//! Nothing is told that may still be lost; what waits for a commit waits in here ([`log`]), with a deadline.
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
//! In reading order: [`types`] (requests, answers), [`record`] with [`codec`] (what is written), `store` (what
//! committed records say), `log` (what is under way), `classic`, `consumer` with `assignor`, `offsets`, `admin`,
//! `expiry`, `checks`, [`limits`].

pub mod codec;
pub mod limits;
pub mod record;
pub mod types;

mod admin;
mod checks;
mod classic;
mod expiry;
mod leading;
mod log;
mod names;
mod offsets;
mod store;
mod subscription;

#[cfg(test)]
mod testing;

use crate::types::RequestId;
use alloc::vec::Vec;
use leading::Lead;
use limits::GroupsConfig;
use log::{After, Turn};
use raftline_proto::time::{Monotonic, Now};
use record::GroupRecord;
use store::Store;
use types::{GroupError, GroupRequest, Output};

/// All groups of one coordinator partition.
#[derive(Debug)]
pub struct Groups {
    config: GroupsConfig,
    /// What committed records say: equal on replicas that applied the same ones.
    store: Store,
    /// `Some` exactly while this replica leads.
    lead: Option<Lead>,
}

impl Groups {
    /// A replica that has applied nothing and does not lead.
    #[must_use]
    pub fn new(config: GroupsConfig) -> Self {
        Self { config, store: Store::default(), lead: None }
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
                After::Respond { request, response } => {
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

    /// This replica leads now. Every member's session begins anew.
    ///
    /// # Panics
    /// If it leads already.
    pub fn lead(&mut self, now: Now) {
        assert!(self.lead.is_none(), "a leader begins to lead");
        self.lead = Some(Lead::load(&self.store, &self.config, now));
    }

    /// This replica leads no more, or cannot append: everybody who waits is told `NOT_COORDINATOR`.
    pub fn follow(&mut self, outputs: &mut Vec<Output>) {
        let Some(mut lead) = self.lead.take() else { return };
        let withheld = lead.log.take_all().into_iter().filter_map(|after| match after {
            After::Respond { request, response: _ } => Some(request),
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
        let turn = Turn { now, config: &self.config, log: &mut lead.log, outputs };
        leading::Leading { store: &self.store, groups: &mut lead.groups, turn }.handle(id, request);
    }

    /// What is due by now: sessions, rebalances, answers that wait for too long, offsets that are too old.
    pub fn tick(&mut self, now: Now, outputs: &mut Vec<Output>) {
        let Some(lead) = &mut self.lead else { return };
        while let Some(after) = lead.log.take_overdue(now.monotonic) {
            match after {
                After::Respond { request, response: _ } => {
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
        let turn = Turn { now, config: &self.config, log: &mut lead.log, outputs };
        let mut leading = leading::Leading { store: &self.store, groups: &mut lead.groups, turn };
        leading.tick_groups();
        if lead.cleanup_at <= now.monotonic {
            let more = leading.expire();
            let next = if more { EXPIRY_PAUSE } else { self.config.offsets_check_interval };
            lead.cleanup_at = now.monotonic + next;
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

    /// Whether both have the same committed state.
    #[must_use]
    pub fn same_state(&self, other: &Self) -> bool {
        self.store == other.store
    }
}

/// Between two steps of an expiry that has more to do than one append may hold.
const EXPIRY_PAUSE: core::time::Duration = core::time::Duration::from_secs(1);
