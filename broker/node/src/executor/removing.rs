//! What has gone from the log and is still on the disk: directories of deleted groups, files of segments. Unlinking
//! frees extents and waits for the file system's journal, so it is done on another thread, one job at a time.

use std::io;
use std::path::PathBuf;

use raftline_proto::ids::GroupId;
use raftline_shard::types::Event;
use raftline_storage::{Disk, is_shortage};

use super::{Executor, Outside, SyncState};
use crate::payload::Payload;

/// Files and directories to be removed.
pub struct Removal<D: Disk> {
    disk: D,
    groups_dir: PathBuf,
    /// Deleted groups: their directories, and the names that these get until they are gone.
    groups: Vec<(GroupId, PathBuf, PathBuf)>,
    /// Directories that were renamed before.
    trash: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

/// What became of a [`Removal`]; for [`Executor::removed`].
pub struct Removed {
    groups: Vec<(GroupId, io::Result<()>)>,
    synced: io::Result<()>,
}

impl Removed {
    /// How the sync of the groups' new names went.
    ///
    /// # Errors
    /// Whatever the disk said.
    pub(super) fn into_synced(self) -> io::Result<()> {
        self.synced
    }
}

impl<D: Disk> Removal<D> {
    /// Does it. The groups' new names are durable before anything of them goes: no crash brings them back half empty.
    #[must_use]
    pub fn run(self) -> Removed {
        let Self { disk, groups_dir, groups, mut trash, files } = self;
        let held = if groups.is_empty() { Ok(None) } else { disk.hold_dir(&groups_dir).map(Some) };
        let held = match held {
            Err(error) if is_shortage(&error) => {
                let short = |(group, ..): (GroupId, _, _)| (group, Err(io::Error::from(error.kind())));
                return Removed { groups: groups.into_iter().map(short).collect(), synced: Ok(()) };
            }
            // There is no such directory, so there is nothing to delete; the renames say so.
            held => held.ok().flatten(),
        };
        let mut outcomes = Vec::new();
        for (group, from, to) in groups {
            let outcome = match disk.rename(&from, &to) {
                Ok(()) => {
                    trash.push(to);
                    Ok(())
                }
                // It was never opened here, or its deletion was under way when the process stopped.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            };
            outcomes.push((group, outcome));
        }
        let synced = if trash.is_empty() { Ok(()) } else { disk.sync_dir(&groups_dir) };
        drop(held);
        if synced.is_ok() {
            for dir in trash {
                if let Err(error) = disk.remove_dir_all(&dir) {
                    // They stay where they are: the next start removes them.
                    tracing::warn!(dir = %dir.display(), %error, "deleted group's files could not be removed");
                }
            }
            for file in files {
                match disk.remove(&file) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        // The next start removes it: it is no part of its log.
                        tracing::warn!(file = %file.display(), %error, "an old segment could not be removed");
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Removed { groups: outcomes, synced }
    }
}

impl<D: Disk> Executor<D> {
    /// Closes a group. Its directory is put away by [`Executor::put_away`].
    pub(super) fn delete(&mut self, group: GroupId) {
        self.groups.remove(&group);
        self.being_opened.remove(&group);
        self.dirty.remove(&group);
        self.doomed.push(group);
    }

    /// Takes over what a log wants removed.
    pub(super) fn gather(&mut self, group: GroupId) {
        if let Some(open) = self.groups.get_mut(&group) {
            self.old_files.extend(open.log.take_removed());
        }
    }

    /// Has removed what has gone. Directories get other names only between two sync rounds: one in flight may have to sync
    /// a directory by its name.
    pub(super) fn put_away(&mut self, outside: &mut impl Outside<D>, answers: &mut Vec<Event<Payload>>) {
        if let Some(removal) = self.next_removal() {
            match outside.remove(removal) {
                Some(removal) => self.removed(removal.run(), outside, answers),
                None => self.removing = true,
            }
        }
    }

    /// The next job, if there is any and none is under way.
    pub(super) fn next_removal(&mut self) -> Option<Removal<D>> {
        let waits = self.doomed.is_empty() && self.trash.is_empty() && self.old_files.is_empty();
        if waits || self.removing {
            return None;
        }
        // The files of a log that is being compacted are read by their names. It comes back, and then they go.
        let (later, now): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.doomed).into_iter().partition(|group| self.is_compacting(*group));
        self.doomed = later;
        let groups = now.into_iter().map(|group| (group, self.group_dir(group), self.trash_dir(group)));
        let removal = Removal {
            disk: self.disk.clone(),
            groups_dir: self.groups_dir.clone(),
            groups: groups.collect(),
            trash: std::mem::take(&mut self.trash),
            files: std::mem::take(&mut self.old_files),
        };
        let is_idle = removal.groups.is_empty() && removal.trash.is_empty() && removal.files.is_empty();
        (!is_idle).then_some(removal)
    }

    /// A [`Removal`] came back.
    pub fn removed(
        &mut self,
        done: Removed,
        outside: &mut impl Outside<D>,
        answers: &mut Vec<Event<Payload>>,
    ) {
        self.removing = false;
        if self.sync == SyncState::Failed {
            return;
        }
        for (group, outcome) in done.groups {
            match outcome {
                Ok(()) => {
                    self.state.remove(group);
                    outside.group_deleted(group);
                }
                Err(error) if is_shortage(&error) => self.doomed.push(group),
                Err(error) => {
                    let reason = format!("{} could not be deleted: {error}", self.group_dir(group).display());
                    self.fail(group, reason, outside, answers);
                }
            }
        }
        // Like any other failed sync: the kernel may report it once only, and the next sync of the same directory, which
        // makes a new group's name durable, would succeed without having done so.
        if let Err(error) = done.synced {
            self.sync = SyncState::Failed;
            outside.sync_failed(&error);
        }
    }
}
