//! The shard's deadlines. A group that waits for nothing has none.

use alloc::collections::BTreeSet;
use raftline_proto::ids::GroupId;
use raftline_proto::time::Monotonic;

/// When what is due.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    groups: BTreeSet<(Monotonic, GroupId)>,
    /// Groups whose commit index is to be noted, and when. Invariant: `note_at` is `Some` exactly if there are any.
    notes: BTreeSet<GroupId>,
    note_at: Option<Monotonic>,
    retention_at: Option<Monotonic>,
    /// Groups whose leader here has to look at its followers again, and when. Invariant: as with the notes.
    looks: BTreeSet<GroupId>,
    look_at: Option<Monotonic>,
}

impl Timers {
    /// The earliest of all.
    pub fn first(&self) -> Option<Monotonic> {
        let group = self.groups.first().map(|(deadline, _)| *deadline);
        group.into_iter().chain(self.note_at).chain(self.retention_at).chain(self.look_at).min()
    }

    /// Moves a group's deadline.
    pub fn rearm(&mut self, group: GroupId, from: Option<Monotonic>, to: Option<Monotonic>) {
        if let Some(deadline) = from {
            self.groups.remove(&(deadline, group));
        }
        if let Some(deadline) = to {
            self.groups.insert((deadline, group));
        }
    }

    /// Takes a group that is due.
    pub fn pop_group(&mut self, now: Monotonic) -> Option<GroupId> {
        let (deadline, group) = *self.groups.first()?;
        if deadline > now {
            return None;
        }
        self.groups.pop_first();
        Some(group)
    }

    /// The group's commit index moved; all that moved by then are noted together.
    pub fn want_note(&mut self, group: GroupId, at: Monotonic) {
        self.notes.insert(group);
        self.note_at.get_or_insert(at);
    }

    /// Whether notes are due.
    pub fn pop_note(&mut self, now: Monotonic) -> bool {
        self.note_at.is_some_and(|at| at <= now)
    }

    /// Takes the groups to note.
    pub fn take_notes(&mut self) -> BTreeSet<GroupId> {
        self.note_at = None;
        core::mem::take(&mut self.notes)
    }

    /// The group's followers are to be looked at again; all that wait by then are looked at together.
    pub fn want_look(&mut self, group: GroupId, at: Monotonic) {
        self.looks.insert(group);
        self.look_at.get_or_insert(at);
    }

    /// Whether the group is among them.
    pub fn wants_look(&self, group: GroupId) -> bool {
        self.looks.contains(&group)
    }

    /// Whether looks are due.
    pub fn pop_look(&mut self, now: Monotonic) -> bool {
        self.look_at.is_some_and(|at| at <= now)
    }

    /// Takes the groups to look at.
    pub fn take_looks(&mut self) -> BTreeSet<GroupId> {
        self.look_at = None;
        core::mem::take(&mut self.looks)
    }

    /// Something may have to be let go later.
    pub fn want_retention(&mut self, at: Monotonic) {
        self.retention_at = Some(self.retention_at.map_or(at, |planned| planned.min(at)));
    }

    /// Whether retention is due; if so, it is not planned any more.
    pub fn pop_retention(&mut self, now: Monotonic) -> bool {
        let due = self.retention_at.is_some_and(|at| at <= now);
        if due {
            self.retention_at = None;
        }
        due
    }
}
