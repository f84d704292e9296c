//! The coordinator: group 0, whose entries are metadata records and whose state is the cluster's image.
//!
//! Every replica applies committed records to its image. The leader also keeps the image *as it will be*
//! once all that is proposed is committed, and plans against that: so two commands in flight cannot contradict each
//! other.

pub mod apply;
pub mod configs;
pub mod internal;
pub mod names;
pub mod placement;
pub mod plan;

use crate::image::MetadataImage;
use crate::parking::Parking;
use crate::tail::{Tail, TailBody, TailEntry};
use crate::types::{CoordinatorError, CoordinatorReply, Effect, Reply, RequestId, ShardAlarm};
use alloc::sync::Arc;
use alloc::vec::Vec;
use raftline_proto::ids::{GroupId, Index};
use raftline_proto::metadata::MetadataRecord;
use raftline_proto::time::Monotonic;

/// Group 0's state beside its log and its Raft state.
#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    /// All committed records, applied.
    pub image: Arc<MetadataImage>,
    /// The same with all that is appended. Invariant: `Some` exactly while this replica leads.
    planned: Option<MetadataImage>,
    /// Commands that wait for their commit.
    pub parked: Parking<CoordinatorReply>,
}

impl Coordinator {
    /// Applies a committed entry. Records that cannot apply are skipped, on every replica alike.
    pub fn committed<P>(&mut self, entry: &TailEntry, effects: &mut Vec<Effect<P>>) {
        let image = Arc::make_mut(&mut self.image);
        image.applied = entry.id.index;
        if let TailBody::Metadata(records) = &entry.body {
            for record in records {
                if let Err(reason) = apply::apply(image, record) {
                    let alarm = ShardAlarm::RecordIgnored { entry: entry.id, reason };
                    effects.push(Effect::Alarm { group: GroupId::COORDINATOR, alarm });
                }
            }
        }
    }

    /// This replica leads now: from here on it plans.
    pub fn begin_leading(&mut self, tail: &Tail) {
        let mut planned = (*self.image).clone();
        for entry in tail.pending() {
            if let TailBody::Metadata(records) = &entry.body {
                for record in records {
                    // What cannot apply will be ignored, with an alarm, once it is committed.
                    let _ignored = apply::apply(&mut planned, record);
                }
            }
        }
        self.planned = Some(planned);
    }

    /// The image to plan against, while this replica leads.
    pub fn planned(&self) -> Option<&MetadataImage> {
        self.planned.as_ref()
    }

    /// `records` were proposed.
    pub fn proposed(&mut self, records: &[MetadataRecord]) {
        if let Some(planned) = &mut self.planned {
            for record in records {
                let applied = apply::apply(planned, record);
                debug_assert_eq!(applied, Ok(()), "what was planned applies");
            }
        }
    }

    /// This replica leads no more: what waits has an unknown outcome.
    pub fn stop_leading<P>(&mut self, effects: &mut Vec<Effect<P>>) {
        self.planned = None;
        self.refuse_from(Index::ZERO, &CoordinatorError::OutcomeUnknown, effects);
    }

    /// Answers those whose entry is at `from` or later.
    pub fn refuse_from<P>(&mut self, from: Index, why: &CoordinatorError, effects: &mut Vec<Effect<P>>) {
        for parked in self.parked.take_from(from) {
            effects.push(answer(parked.request, Err(why.clone())));
        }
    }

    /// Answers those that waited for `entry`.
    pub fn acknowledge<P>(&mut self, entry: &TailEntry, effects: &mut Vec<Effect<P>>) {
        while let Some(parked) = self.parked.take_through(entry.id.index) {
            let outcome = match parked.entry == entry.id {
                true => Ok(parked.what),
                false => Err(CoordinatorError::OutcomeUnknown),
            };
            effects.push(answer(parked.request, outcome));
        }
    }

    /// Answers those that waited too long.
    pub fn time_out<P>(&mut self, now: Monotonic, effects: &mut Vec<Effect<P>>) {
        while let Some(parked) = self.parked.take_overdue(now) {
            effects.push(answer(parked.request, Err(CoordinatorError::OutcomeUnknown)));
        }
    }
}

/// The answer to a command.
pub(crate) fn answer<P>(
    request: RequestId,
    outcome: Result<CoordinatorReply, CoordinatorError>,
) -> Effect<P> {
    Effect::Reply { request, reply: Reply::Coordinated(outcome) }
}
