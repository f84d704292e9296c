//! Log compaction: jobs are begun and their outcome is taken over on the shard's thread, and run elsewhere, one at a
//! time. What waits here is an order and no more: the log may change until it is begun.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use raftline_proto::ids::GroupId;
use raftline_shard::types::{self, Event};
use raftline_storage::{AdoptError, Compacted, Compaction, CompactionError, CompactionRule, Disk};

use super::{Executor, Outside, SyncState};
use crate::limits;
use crate::payload::Payload;

/// A shard's compactions.
#[derive(Default)]
pub(super) struct Compactions {
    waiting: VecDeque<(GroupId, types::CompactionRule)>,
    running: Option<Running>,
}

/// The job that is somewhere else.
struct Running {
    group: GroupId,
    rule: types::CompactionRule,
    cancel: Arc<AtomicBool>,
}

/// A log's sealed part to be rewritten. That reads and writes much, so it is done on another thread.
pub struct CompactionJob<D: Disk> {
    group: GroupId,
    compaction: Compaction<D>,
}

/// What became of a [`CompactionJob`]; for [`Executor::compaction_done`].
pub struct CompactionDone<D: Disk> {
    group: GroupId,
    result: Result<Compacted<D>, CompactionError>,
}

impl<D: Disk> CompactionJob<D> {
    /// Does it.
    #[must_use]
    pub fn run(self) -> CompactionDone<D> {
        CompactionDone { group: self.group, result: self.compaction.run() }
    }

    /// Whose log it is.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }
}

impl<D: Disk> CompactionDone<D> {
    /// Whose log it is.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }
}

impl<D: Disk> Executor<D> {
    /// Takes an order in.
    pub(super) fn compact(&mut self, group: GroupId, rule: types::CompactionRule) {
        self.compactions.waiting.push_back((group, rule));
    }

    /// Whether a group's files are being worked on elsewhere.
    pub(super) fn is_compacting(&self, group: GroupId) -> bool {
        self.compactions.running.as_ref().is_some_and(|running| running.group == group)
    }

    /// Says how much of a log is compacted.
    pub(super) fn survey(&self, group: GroupId, answers: &mut Vec<Event<Payload>>) {
        let Some(open) = self.groups.get(&group) else { return };
        let facts = open.log.compaction_facts();
        let facts = types::CompactionFacts {
            clean_bytes: facts.clean_bytes,
            dirty_bytes: facts.dirty_bytes,
            dirty_since: facts.dirty_since,
        };
        answers.push(Event::Surveyed { group, facts });
    }

    /// Begins the next job, if none is under way.
    pub(super) fn begin_compaction(
        &mut self,
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
    ) {
        while self.compactions.running.is_none()
            && let Some((group, rule)) = self.compactions.waiting.pop_front()
        {
            self.write(group);
            // Deleted or failed meanwhile.
            let Some(open) = self.touch(group) else { continue };
            let memory_bytes_max = limits::COMPACTION_MEMORY_BYTES;
            let types::CompactionRule { through, tombstones_before } = rule;
            let order = CompactionRule { through, tombstones_before, memory_bytes_max };
            match open.log.compaction(order) {
                Ok(None) => answers.push(Event::Compacted { group, rule }),
                Ok(Some(compaction)) => {
                    // It may have sealed a segment.
                    self.dirty.insert(group);
                    let cancel = compaction.canceller();
                    self.compactions.running = Some(Running { group, rule, cancel });
                    outside.compact(CompactionJob { group, compaction });
                }
                Err(error) => {
                    tracing::warn!(partition = (self.names)(group), %error, "a log cannot be compacted now; it is tried again later");
                    self.dirty.insert(group);
                    answers.push(Event::CompactionFailed { group });
                }
            }
        }
    }

    /// A job came back.
    pub fn compaction_done(
        &mut self,
        done: CompactionDone<D>,
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
    ) {
        let CompactionDone { group, result } = done;
        let running = self.compactions.running.take().filter(|running| running.group == group);
        let Some(Running { rule, .. }) = running else {
            panic!("a compaction came back that was not under way")
        };
        if self.sync == SyncState::Failed {
            return;
        }
        self.write(group);
        // Deleted or failed meanwhile: what was made is removed with the job.
        let Some(open) = self.groups.get_mut(&group) else { return };
        let adopted = match result {
            Ok(compacted) => open.log.adopt(compacted),
            Err(error @ CompactionError::Corrupt { .. }) => {
                answers.push(Event::CompactionFailed { group });
                self.fail(group, error.to_string(), outside, answers);
                return;
            }
            Err(error) => {
                if !matches!(error, CompactionError::Cancelled) {
                    tracing::warn!(partition = (self.names)(group), %error, "a log could not be compacted; it is tried again later");
                }
                answers.push(Event::CompactionFailed { group });
                return;
            }
        };
        self.old_files.extend(open.log.take_removed());
        match adopted {
            Ok(facts)
                if (facts.clean_through, facts.tombstones_before)
                    >= (rule.through, rule.tombstones_before) =>
            {
                tracing::debug!(partition = (self.names)(group), ?facts, "log compacted");
                answers.push(Event::Compacted { group, rule });
            }
            // The log was cut at its front, or began anew, while the job ran.
            Ok(_) => answers.push(Event::CompactionFailed { group }),
            Err(AdoptError::SyncFailed { source, .. }) => {
                self.sync = SyncState::Failed;
                outside.sync_failed(&source);
            }
            Err(error @ AdoptError::Io { .. }) => {
                tracing::warn!(partition = (self.names)(group), %error, "a compacted log could not be taken over; it is tried again later");
                answers.push(Event::CompactionFailed { group });
            }
        }
    }

    /// Has the job that is under way end soon: the process stops.
    pub(super) fn cancel_compaction(&mut self) {
        self.compactions.waiting.clear();
        if let Some(running) = &self.compactions.running {
            running.cancel.store(true, Ordering::Relaxed);
        }
    }
}
