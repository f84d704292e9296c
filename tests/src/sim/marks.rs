//! Coverage marks: situations that a campaign must have been in, or its green light means little.

use std::fmt;

/// A situation worth having been in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// A follower cut its log because the leader's differed.
    FollowerTruncates,
    /// A new leader had an uncommitted entry of an older term.
    OldTermPendingAtElection,
    /// Recovery cut a torn tail.
    TornTailCut,
    /// An entry was committed before the leader's own disk held it.
    CommitBeforeLeaderSync,
    /// A retry of an idempotent producer was answered as a duplicate.
    DuplicateAnswered,
    /// A retry of an idempotent producer was answered as a duplicate by another leader than took it first.
    DuplicateAcrossLeaders,
    /// An idempotent producer's sequence passed its greatest number within a batch.
    SequenceWrapped,
    /// A candidate was refused.
    VoteRefused,
    /// A pre-vote was refused because a leader was alive.
    PreVoteRefused,
    /// An append was refused because the entry before it differed.
    AppendRejected,
    /// A leader stepped down without having been replaced.
    SteppedDown,
    /// Leadership was handed over on request.
    Transferred,
    /// A node died in the middle of a turn.
    CrashInTurn,
    /// A node lost power with unsynced writes.
    PowerLossWithUnsynced,
    /// All nodes lost power at once.
    PowerLossOfAll,
    /// A minority, or the leader, was cut off.
    Partitioned,
    /// A leader was cut off or died right after its election.
    ReignCutShort,
    /// Messages went one way only.
    OneWayPartition,
    /// A message arrived twice.
    Duplicated,
    /// A message overtook another one.
    Reordered,
    /// A message of an old connection arrived after a reset.
    StaleDelivered,
    /// A node was stopped for a while and went on.
    Paused,
    /// A shard's thread or disk hung for so long that its node said so.
    ShardStuck,
    /// A produce was answered that leadership was lost.
    LeadershipLostAnswered,
    /// A log rolled over to a new segment.
    SegmentRolled,
    /// A fetch was parked and answered later.
    FetchParked,
    /// A question about offsets waited until a leader was sure of itself.
    QuestionParked,
    /// Somebody was told where the part of an earlier leader ends.
    EpochValidated,
    /// A disk was full and had room again.
    DiskWasFull,
    /// A sync failed and the process stopped.
    SyncFailed,
    /// A log was compacted.
    Compacted,
    /// A log lost tombstones.
    TombstonesDropped,
    /// Records were deleted by request.
    Erased,
    /// Retention let go of records: more was left than the topic says is kept.
    Retained,
    /// Retention let go of records: they were older than the topic says.
    Outlived,
    /// A topic was deleted beside the load.
    TopicDeleted,
    /// A clock was days off where records go by age.
    ClockOff,
    /// A replica was so far behind that it began anew where its leader's log begins.
    BegunAnew,
    /// A replica was closed because bytes of its log had gone bad.
    RotFound,
}

/// All marks: what [`Marks`] counts.
pub const ALL: [Mark; 39] = [
    Mark::FollowerTruncates,
    Mark::OldTermPendingAtElection,
    Mark::TornTailCut,
    Mark::CommitBeforeLeaderSync,
    Mark::DuplicateAnswered,
    Mark::DuplicateAcrossLeaders,
    Mark::SequenceWrapped,
    Mark::VoteRefused,
    Mark::PreVoteRefused,
    Mark::AppendRejected,
    Mark::SteppedDown,
    Mark::Transferred,
    Mark::CrashInTurn,
    Mark::PowerLossWithUnsynced,
    Mark::PowerLossOfAll,
    Mark::Partitioned,
    Mark::ReignCutShort,
    Mark::OneWayPartition,
    Mark::Duplicated,
    Mark::Reordered,
    Mark::StaleDelivered,
    Mark::Paused,
    Mark::ShardStuck,
    Mark::LeadershipLostAnswered,
    Mark::SegmentRolled,
    Mark::FetchParked,
    Mark::QuestionParked,
    Mark::EpochValidated,
    Mark::DiskWasFull,
    Mark::SyncFailed,
    Mark::Compacted,
    Mark::TombstonesDropped,
    Mark::Erased,
    Mark::Retained,
    Mark::Outlived,
    Mark::TopicDeleted,
    Mark::ClockOff,
    Mark::BegunAnew,
    Mark::RotFound,
];

/// How often each mark was hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks([u64; ALL.len()]);

impl Default for Marks {
    fn default() -> Self {
        Self([0; ALL.len()])
    }
}

impl Marks {
    /// Counts one hit.
    pub fn hit(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    /// How often.
    #[must_use]
    pub fn count(&self, mark: Mark) -> u64 {
        self.0[mark as usize]
    }

    /// Adds another run's hits.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// The marks that were never hit.
    #[must_use]
    pub fn missed(&self) -> Vec<Mark> {
        ALL.into_iter().filter(|mark| self.count(*mark) == 0).collect()
    }
}

impl fmt::Display for Marks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mark in ALL {
            writeln!(formatter, "  {:<28} {:>9}", format!("{mark:?}"), self.count(mark))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_has_its_own_place() {
        for (place, mark) in ALL.into_iter().enumerate() {
            assert_eq!(mark as usize, place, "{mark:?}");
        }
        let mut marks = Marks::default();
        marks.hit(Mark::Paused);
        let mut sum = marks.clone();
        sum.add(&marks);
        assert_eq!(sum.count(Mark::Paused), 2);
        assert_eq!(sum.missed().len(), ALL.len() - 1);
    }
}
