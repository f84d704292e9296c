//! A fetch from beyond the log's end. Either nobody ever told its consumer such an offset, or another replica leads by now
//! and has told it what this one does not have: a leader that was cut off, or stood still, hears of that late. Its
//! consumer would take "out of range" for the loss of its place, and begin anew somewhere else.
//!
//! So the leader first has an entry committed, which it can only if nobody else led when the fetch came.

use crate::fetch::{Patience, Want};
use crate::group::{Body, Group, Stage, Standing, Turn};
use crate::limits::{PARKED_FETCHES_MAX, PENDING_ENTRIES_MAX};
use crate::parking::Parked;
use crate::partition::Partition;
use crate::requests::refuse_fetch;
use crate::tail::Tail;
use crate::types::{DiskSpace, Effect, FetchError};
use alloc::vec::Vec;
use raftline_proto::entry::EntryBody;
use raftline_proto::ids::{EntryId, Index};
use raftline_proto::time::Monotonic;

impl Group {
    /// Whether only a leader that is sure of it may answer.
    pub fn is_beyond(&self, want: &Want) -> bool {
        let is_partition = matches!(self.body, Body::Partition(_));
        is_partition && self.leading.is_some() && want.from > self.tail.end_offset()
    }

    /// Lets the fetch wait until it is known whether this replica still leads.
    pub fn fetch_beyond<P>(&mut self, want: Want, turn: &mut Turn<'_, P>) {
        let Body::Partition(partition) = &self.body else { return };
        let full = partition.beyond.len() >= PARKED_FETCHES_MAX
            || self.tail.pending().len() >= PENDING_ENTRIES_MAX
            || matches!(turn.intake.disk, DiskSpace::Low { .. });
        if full || turn.intake.draining {
            turn.effects.push(refuse_fetch(want.request, FetchError::Busy));
            return;
        }
        let Ok(entry) = self.propose(EntryBody::NoOp, None, turn) else {
            turn.effects.push(refuse_fetch(want.request, FetchError::Busy));
            return;
        };
        let applied = self.tail.applied();
        let Self { stage: Stage::Open(raft), body: Body::Partition(partition), tail, leading, node, .. } =
            self
        else {
            // The proposal closed the group, which answered all who waited then; this one did not wait yet.
            turn.effects.push(refuse_fetch(want.request, FetchError::Busy));
            return;
        };
        if entry.index <= applied {
            // A leader whose only voter it is commits at once, as soon as that is durable.
            let standing = Standing::of(raft, *leading, *node);
            partition.fetch(want, Patience::Answer, &standing, tail, turn.effects);
        } else {
            let deadline = want.deadline.max(turn.now.monotonic + turn.config.timings.election_max);
            partition.beyond.park(want.request, entry, deadline, want);
        }
    }
}

impl Partition {
    /// Answers those that wait for `entry`, which is committed.
    pub fn answer_beyond<P>(
        &mut self,
        entry: EntryId,
        standing: &Standing<'_>,
        tail: &Tail,
        effects: &mut Vec<Effect<P>>,
    ) {
        while let Some(Parked { request, entry: awaited, what: want, .. }) =
            self.beyond.take_through(entry.index)
        {
            match awaited == entry {
                true => self.fetch(want, Patience::Answer, standing, tail, effects),
                // Another entry took the place of the one that was waited for.
                false => effects.push(refuse_fetch(request, standing.not_leader_fetch())),
            }
        }
    }

    /// Answers those whose entry is at `from` or later.
    pub fn refuse_beyond_from<P>(&mut self, from: Index, why: &FetchError, effects: &mut Vec<Effect<P>>) {
        for parked in self.beyond.take_from(from) {
            effects.push(refuse_fetch(parked.request, why.clone()));
        }
    }

    /// Answers those that waited too long: no majority says that this replica leads.
    pub fn time_out_beyond<P>(
        &mut self,
        now: Monotonic,
        standing: &Standing<'_>,
        effects: &mut Vec<Effect<P>>,
    ) {
        while let Some(parked) = self.beyond.take_overdue(now) {
            let why = FetchError::NotLeader { leader: None, term: standing.term() };
            effects.push(refuse_fetch(parked.request, why));
        }
    }
}
