//! Idle groups let go of their files and maps: an idle partition costs no descriptor and no mapping.
//!
//! There is no timer for each group. Groups that are read or written are noted; once an interval, those that were
//! noted an interval ago and not since are put to rest.

use raftline_proto::ids::GroupId;
use raftline_proto::time::Monotonic;
use raftline_storage::Disk;

use super::{Executor, Group};
use crate::limits;

/// Which groups may have files open.
#[derive(Debug, Default)]
pub(super) struct Resting {
    /// Touched since the last look, once each.
    awake: Vec<GroupId>,
    /// Touched between the look before that and the last one.
    cooling: Vec<GroupId>,
    /// When the last look was. `None` while no file is open.
    looked: Option<Monotonic>,
}

impl Resting {
    /// When to look again.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.looked.map(|looked| looked + limits::REST_INTERVAL)
    }
}

impl<D: Disk> Executor<D> {
    /// A group that is about to be read or written.
    pub(super) fn touch(&mut self, group: GroupId) -> Option<&mut Group<D>> {
        let open = self.groups.get_mut(&group)?;
        if !open.awake {
            open.awake = true;
            self.resting.awake.push(group);
        }
        Some(open)
    }

    /// Puts those to rest that nothing touched for an interval.
    pub(super) fn rest_some(&mut self, now: Monotonic) {
        let Some(looked) = self.resting.looked else {
            if !self.resting.awake.is_empty() {
                self.resting.looked = Some(now);
            }
            return;
        };
        if now < looked + limits::REST_INTERVAL {
            return;
        }
        for group in std::mem::take(&mut self.resting.cooling) {
            if let Some(open) = self.groups.get_mut(&group).filter(|open| !open.awake) {
                open.log.rest();
            }
        }
        self.resting.cooling = std::mem::take(&mut self.resting.awake);
        for group in &self.resting.cooling {
            if let Some(open) = self.groups.get_mut(group) {
                open.awake = false;
            }
        }
        self.resting.looked = (!self.resting.cooling.is_empty()).then_some(now);
    }
}
