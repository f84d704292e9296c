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
use crate::limits;
use crate::parking::Parking;
use crate::tail::{Tail, TailBody, TailEntry};
use crate::types::{CoordinatorError, CoordinatorReply, Effect, Reply, RequestId, ShardAlarm};
use alloc::sync::Arc;
use alloc::vec::Vec;
use raftline_proto::ids::{EntryId, GroupId, Index, ProducerId, Term};
use raftline_proto::metadata::MetadataRecord;
use raftline_proto::time::Monotonic;
use raftline_raft::types::Round;

/// Group 0's state beside its log and its Raft state.
#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    /// All committed records, applied.
    pub image: Arc<MetadataImage>,
    /// The same with all that is appended. Invariant: `Some` exactly while this replica leads.
    planned: Option<MetadataImage>,
    /// Commands that wait for their commit.
    pub parked: Parking<CoordinatorReply>,
    /// What is decided and changes nothing: answers that wait for a round which confirms this leader ([`at_round`]).
    pub unsure: Parking<Result<CoordinatorReply, CoordinatorError>>,
    /// Producer ids that this leader has taken and not given away, and the entry that takes them: whoever else ever leads
    /// begins behind them.
    ids: Option<Ids>,
}

#[derive(Clone, Copy, Debug)]
struct Ids {
    next: ProducerId,
    left: u64,
    entry: EntryId,
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

    /// A block of producer ids is taken by `entry`; the first of them is given away with it.
    pub fn take_ids(&mut self, first: ProducerId, entry: EntryId) {
        self.ids =
            Some(Ids { next: ProducerId(first.get() + 1), left: limits::PRODUCER_IDS_BLOCK - 1, entry });
    }

    /// The next producer id of the block, and the entry that it waits for; `None` if there is none left.
    pub fn next_id(&mut self) -> Option<(ProducerId, EntryId)> {
        let ids = self.ids.as_mut().filter(|ids| ids.left > 0)?;
        let id = ids.next;
        (ids.next, ids.left) = (ProducerId(id.get() + 1), ids.left - 1);
        Some((id, ids.entry))
    }

    /// This replica leads no more: what waits has an unknown outcome.
    pub fn stop_leading<P>(&mut self, effects: &mut Vec<Effect<P>>) {
        self.planned = None;
        self.ids = None;
        self.refuse_from(Index::ZERO, &CoordinatorError::OutcomeUnknown, effects);
        for parked in self.unsure.take_from(Index::ZERO) {
            effects.push(answer(parked.request, Err(CoordinatorError::NotLeader { leader: None })));
        }
    }

    /// A majority followed this leader after round `through` had begun.
    pub fn confirmed<P>(&mut self, through: Round, effects: &mut Vec<Effect<P>>) {
        while let Some(parked) = self.unsure.take_through(at_round(through).index) {
            effects.push(answer(parked.request, parked.what));
        }
    }

    /// When somebody has waited too long.
    pub fn first_deadline(&self) -> Option<Monotonic> {
        self.parked.first_deadline().into_iter().chain(self.unsure.first_deadline()).min()
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
        // No majority says that this one leads.
        while let Some(parked) = self.unsure.take_overdue(now) {
            effects.push(answer(parked.request, Err(CoordinatorError::NotLeader { leader: None })));
        }
    }
}

/// Stands for a round where requests wait by entry. Rounds count up, too.
pub(crate) fn at_round(round: Round) -> EntryId {
    EntryId::new(Term::ZERO, Index(round.0))
}

/// The answer to a command.
pub(crate) fn answer<P>(
    request: RequestId,
    outcome: Result<CoordinatorReply, CoordinatorError>,
) -> Effect<P> {
    Effect::Reply { request, reply: Reply::Coordinated(outcome) }
}
