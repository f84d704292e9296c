//! A sync round: everything that a shard wrote since its last one, made durable together.

use std::io;

use raftline_proto::ids::GroupId;
use raftline_storage::{Disk, StateTicket, SyncPart, SyncSet, SyncTicket};

/// What one round makes durable. Comes back through [`super::Executor::sync_done`].
pub struct SyncRound<D: Disk> {
    pub(super) disk: D,
    pub(super) logs: Vec<(GroupId, SyncTicket<D>)>,
    pub(super) state: Option<StateTicket<D>>,
}

impl<D: Disk> SyncRound<D> {
    /// Splits the work into at most `parts` that may run side by side. The round has succeeded when all of them have.
    #[must_use]
    pub fn split(&self, parts: usize) -> Vec<SyncPart<D>> {
        let mut set = SyncSet::new(self.disk.clone());
        for (_, ticket) in &self.logs {
            set.add(ticket);
        }
        if let Some(state) = &self.state {
            set.add_state(state);
        }
        set.split(parts)
    }

    /// Does all of it on this thread.
    ///
    /// # Errors
    /// Whatever the disk said first. The round must not be run again then: a later success would prove nothing.
    pub fn run(&self) -> io::Result<()> {
        self.split(1).iter().try_for_each(SyncPart::run)
    }

    /// The groups whose logs it covers.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.logs.iter().map(|(group, _)| *group)
    }
}
