//! Fetch: serve what is below the high watermark, or wait for the next commit or the deadline.
//!
//! The shard decides which range is readable; how many bytes that is, only the executor knows. A read that found too
//! little comes back as [`Event::ReadShort`](crate::types::Event::ReadShort) and waits here for the missing bytes.

use crate::group::Standing;
use crate::limits::{FETCH_BYTES_MAX, PARKED_FETCHES_MAX};
use crate::partition::Partition;
use crate::tail::Tail;
use crate::types::{Effect, EmptyFetch, FetchError, Reply, RequestId};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use raftline_proto::ids::{GroupId, Offset};
use raftline_proto::time::Monotonic;

/// A fetch as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub request: RequestId,
    pub group: GroupId,
    pub from: Offset,
    pub bytes_min: u64,
    pub bytes_max: u64,
    pub deadline: Monotonic,
}

/// Fetches that wait for records of one partition.
///
/// Invariant: `by_bytes` and `by_deadline` hold exactly one item for each of `waiting`.
#[derive(Debug, Default)]
pub(crate) struct ParkedFetches {
    waiting: BTreeMap<RequestId, (Want, u64)>,
    /// By [`Partition::committed_bytes`] at which there is enough.
    by_bytes: BTreeSet<(u64, RequestId)>,
    by_deadline: BTreeSet<(Monotonic, RequestId)>,
}

/// Whether a fetch may still wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It may be parked.
    Wait,
    /// It is to be answered with what there is: its deadline passed, or the node is stopping.
    Answer,
}

impl ParkedFetches {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn first_deadline(&self) -> Option<Monotonic> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    fn park(&mut self, want: Want, wake_at: u64) {
        self.by_bytes.insert((wake_at, want.request));
        self.by_deadline.insert((want.deadline, want.request));
        self.waiting.insert(want.request, (want, wake_at));
    }

    fn take(&mut self, request: RequestId) -> Option<Want> {
        let (want, wake_at) = self.waiting.remove(&request)?;
        self.by_bytes.remove(&(wake_at, request));
        self.by_deadline.remove(&(want.deadline, request));
        Some(want)
    }

    fn take_enough(&mut self, committed_bytes: u64) -> Option<Want> {
        let (wake_at, request) = *self.by_bytes.first()?;
        if wake_at > committed_bytes {
            return None;
        }
        self.take(request)
    }

    fn take_overdue(&mut self, now: Monotonic) -> Option<Want> {
        let (deadline, request) = *self.by_deadline.first()?;
        if deadline > now {
            return None;
        }
        self.take(request)
    }

    fn take_any(&mut self) -> Option<Want> {
        let request = *self.waiting.first_key_value()?.0;
        self.take(request)
    }
}

impl Partition {
    /// Serves, parks or refuses a fetch.
    pub fn fetch<P>(
        &mut self,
        want: Want,
        patience: Patience,
        standing: &Standing<'_>,
        tail: &Tail,
        effects: &mut Vec<Effect<P>>,
    ) {
        let reply = |reply| Effect::Reply { request: want.request, reply: Reply::Fetched(reply) };
        if !standing.leads() {
            effects.push(reply(Err(standing.not_leader_fetch())));
            return;
        }
        let start_offset = tail.start_offset();
        let high_watermark = tail.high_watermark();
        // Between the high watermark and the log's end is a place where a new leader, which does not know yet how
        // much is committed, may find a consumer that was served by its predecessor: it waits.
        if want.from < start_offset || want.from > tail.end_offset() {
            let asked = want.from;
            effects.push(reply(Err(FetchError::OffsetOutOfRange { asked, start_offset, high_watermark })));
            return;
        }
        let want = Want {
            bytes_max: want.bytes_max.min(FETCH_BYTES_MAX),
            bytes_min: want.bytes_min.min(want.bytes_max).min(FETCH_BYTES_MAX),
            ..want
        };
        if want.from < high_watermark {
            let force = patience == Patience::Answer || want.bytes_min <= 1;
            effects.push(read(want, high_watermark, force, start_offset));
        } else if patience == Patience::Answer || want.bytes_min == 0 {
            effects.push(reply(Ok(EmptyFetch { start_offset, high_watermark })));
        } else {
            self.park_fetch(want, want.bytes_min, effects);
        }
    }

    /// A read up to `up_to` found only `bytes`: waits for the rest, unless more was committed meanwhile.
    pub fn read_short<P>(
        &mut self,
        want: Want,
        (up_to, bytes): (Offset, u64),
        patience: Patience,
        standing: &Standing<'_>,
        tail: &Tail,
        effects: &mut Vec<Effect<P>>,
    ) {
        let grown = tail.high_watermark() > up_to;
        if !standing.leads() || grown || patience == Patience::Answer || bytes >= want.bytes_min {
            self.fetch(want, patience, standing, tail, effects);
        } else {
            self.park_fetch(want, want.bytes_min - bytes, effects);
        }
    }

    fn park_fetch<P>(&mut self, want: Want, bytes_missing: u64, effects: &mut Vec<Effect<P>>) {
        if self.fetches.len() >= PARKED_FETCHES_MAX {
            let reply = Reply::Fetched(Err(FetchError::Busy));
            effects.push(Effect::Reply { request: want.request, reply });
            return;
        }
        self.fetches.park(want, self.committed_bytes.saturating_add(bytes_missing));
    }

    /// Serves those for which enough was committed. Called on the leader when the commit index moved.
    pub fn wake_fetches<P>(&mut self, standing: &Standing<'_>, tail: &Tail, effects: &mut Vec<Effect<P>>) {
        while let Some(want) = self.fetches.take_enough(self.committed_bytes) {
            self.fetch(want, Patience::Wait, standing, tail, effects);
        }
    }

    /// Answers those whose time is over with what there is.
    pub fn time_out_fetches<P>(
        &mut self,
        now: Monotonic,
        standing: &Standing<'_>,
        tail: &Tail,
        effects: &mut Vec<Effect<P>>,
    ) {
        while let Some(want) = self.fetches.take_overdue(now) {
            self.fetch(want, Patience::Answer, standing, tail, effects);
        }
    }

    /// Answers one with what there is, if it waits.
    pub fn hurry_fetch<P>(
        &mut self,
        request: RequestId,
        standing: &Standing<'_>,
        tail: &Tail,
        effects: &mut Vec<Effect<P>>,
    ) {
        if let Some(want) = self.fetches.take(request) {
            self.fetch(want, Patience::Answer, standing, tail, effects);
        }
    }

    /// Answers all with what there is.
    pub fn answer_fetches<P>(&mut self, standing: &Standing<'_>, tail: &Tail, effects: &mut Vec<Effect<P>>) {
        while let Some(want) = self.fetches.take_any() {
            self.fetch(want, Patience::Answer, standing, tail, effects);
        }
    }

    /// Answers all with `why`: leadership went, or the group did.
    pub fn refuse_fetches<P>(&mut self, why: &FetchError, effects: &mut Vec<Effect<P>>) {
        while let Some(want) = self.fetches.take_any() {
            let reply = Reply::Fetched(Err(why.clone()));
            effects.push(Effect::Reply { request: want.request, reply });
        }
    }
}

fn read<P>(want: Want, up_to: Offset, force: bool, start_offset: Offset) -> Effect<P> {
    Effect::Read {
        request: want.request,
        group: want.group,
        from: want.from,
        up_to,
        bytes_min: want.bytes_min,
        bytes_max: want.bytes_max,
        force,
        deadline: want.deadline,
        start_offset,
    }
}
