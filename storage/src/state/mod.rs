//! The state file of a shard: hard states, commit hints and durable floors of all its groups, so that an election
//! storm over thousands of groups costs one sync.
//!
//! A journal of records that is written on in place, and written anew (aside, synced, renamed) when it has grown to
//! several times its content, and at every start. Each record says through which record the file was known synced
//! when it was written. So damage among synced records is told from a torn tail: the one is refused by name, since a
//! forgotten vote elects two leaders; the other was never acted on, and is cut.

mod floors;
mod journal;
mod record;

pub use record::SlotError;

use crate::disk::{Disk, DiskFile};
use floors::Floors;
use journal::Journal;
use raftline_proto::ids::{GroupId, HardState, Index, Position};
use record::Body;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is kept for a group beside its log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// Must be durable before the replica speaks.
    pub hard_state: HardState,
    /// An index known to be committed. May lag behind.
    pub commit_hint: Index,
    /// A log position known to be durable. May lag behind.
    pub floor: Position,
}

/// Whether hints and floors are worth a write of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lazy {
    /// Not now: they go along with the group's next hard state, or with a later flush.
    Hold,
    /// Write them. About once a second while there is traffic, and when the shard goes idle or stops.
    Flush,
}

/// The state file of one shard.
pub struct StateFile<D: Disk> {
    journal: Journal<D>,
    floors: Floors<D>,
    groups: BTreeMap<GroupId, GroupState>,
    /// Groups whose hard state changed, or that are gone, since they were last written.
    due: BTreeSet<GroupId>,
    /// Groups whose hint or floor changed.
    lazily_due: BTreeSet<GroupId>,
    /// The last record that holds a hard state or a removal.
    last_vital: u64,
    recovery: StateRecovery,
}

/// What opening found, for logging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateRecovery {
    /// Whether there was no file: a new shard, or one that lost its votes. Whoever knows whether this directory is
    /// new must refuse the second.
    pub created: bool,
    /// Records read.
    pub records: u64,
    /// Records lost or torn at the end, which nobody had acted on.
    pub records_cut: u64,
}

/// Why a state file was not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk failed.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A record that was synced is not as it was written. It may hold a vote: this node must not take part under its
    /// old identity.
    #[error(
        "{}: damaged at byte {at}, in a record that was synced: {reason}. It may hold a vote, \
         so this node must not vote without it: put the file back as it was. A node that has lost it cannot take part any \
         more, and nothing replaces it yet",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        reason: SlotError,
    },
    /// The file is not as long as it was: the votes at its end are gone.
    #[error(
        "{}: the file was shortened, to {bytes} bytes: votes at its end are gone, and this node must not \
         vote without them: put the file back as it was. A node that has lost it cannot take part any more, and nothing \
         replaces it yet",
        file.display()
    )]
    Shortened {
        /// The file.
        file: PathBuf,
        /// How long it is.
        bytes: u64,
    },
    /// Written by a newer Raftline.
    #[error("{}: state file version {found} is newer than version {known} known here: run a newer Raftline", file.display())]
    NewerVersion {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u16,
        /// The newest known here.
        known: u16,
    },
    /// The file of another shard: directories were mixed up.
    #[error("{}: this is the state of shard {found}, not of shard {expected}: the directories were mixed up", file.display())]
    WrongShard {
        /// The file.
        file: PathBuf,
        /// The shard that was asked for.
        expected: u32,
        /// The shard that it names.
        found: u32,
    },
}

/// Why hard states were not written.
#[derive(Debug, thiserror::Error)]
pub enum StateWriteError {
    /// No room, or no descriptor: everything stays due, and may be tried again.
    #[error("{0}")]
    Refused(#[from] io::Error),
    /// A sync failed: stop the process.
    #[error("{0}")]
    SyncFailed(io::Error),
}

/// What has to be synced for hard states to be durable. May be run on any thread; give it back to
/// [`StateFile::done`] after success.
pub struct StateTicket<D: Disk> {
    pub(crate) disk: D,
    pub(crate) files: Vec<Arc<D::File>>,
    pub(crate) dirs: Vec<PathBuf>,
    through: u64,
    hard_states: Vec<(GroupId, HardState)>,
}

impl<D: Disk> StateTicket<D> {
    /// Syncs on this thread.
    ///
    /// # Errors
    /// The first failure, which names the file. Never try again: stop the process.
    pub fn run(&self) -> io::Result<()> {
        self.files.iter().try_for_each(|file| file.sync_data())?;
        self.dirs.iter().try_for_each(|dir| self.disk.sync_dir(dir))
    }

    /// The hard states that are durable when this is.
    #[must_use]
    pub fn hard_states(&self) -> &[(GroupId, HardState)] {
        &self.hard_states
    }

    /// The files to sync.
    #[must_use]
    pub fn files(&self) -> &[Arc<D::File>] {
        &self.files
    }

    /// The directories to sync.
    #[must_use]
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }
}

impl<D: Disk> StateFile<D> {
    /// Opens or creates the state file `state` in `dir`. When this returns, all that it holds is durable.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(disk: D, dir: &Path, shard: u32) -> Result<Self, StateError> {
        let journal::Content { groups, recovery, generation } = journal::read(&disk, dir, shard)?;
        let failed = |source| StateError::Io { file: journal::path(dir), source };
        if recovery.created {
            disk.create_dir_all(dir).map_err(failed)?;
        }
        let states: Vec<Body> = groups.iter().map(|(group, state)| Body::State(*group, *state)).collect();
        // What was read may have come from the page cache, not synced, or marked clean by a failed sync. Written anew
        // and synced, it may be acted on.
        let mut journal = Journal::new(disk.clone(), dir.to_path_buf(), shard, generation + 1);
        journal.rewrite(&states).map_err(|error| match error {
            StateWriteError::Refused(source) | StateWriteError::SyncFailed(source) => failed(source),
        })?;
        for dir in dir.ancestors().take(if recovery.created { 3 } else { 1 }) {
            disk.sync_dir(dir).map_err(failed)?;
        }
        journal.all_synced();
        let last_vital = journal.last_sequence();
        let known = groups.iter().filter(|(_, state)| state.floor > Position::ZERO);
        let known = known.map(|(group, state)| (*group, state.floor));
        let floors = Floors::begin(disk, dir, journal.known_synced(), known).map_err(failed)?;
        Ok(Self {
            journal,
            floors,
            groups,
            due: BTreeSet::new(),
            lazily_due: BTreeSet::new(),
            last_vital,
            recovery,
        })
    }

    /// Reads the file and changes nothing: for offline tools, and for checkers that look into a disk's durable image.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn inspect(disk: &D, dir: &Path, shard: u32) -> Result<BTreeMap<GroupId, GroupState>, StateError> {
        journal::read(disk, dir, shard).map(|content| content.groups)
    }

    /// Which of the files that were ever opened in this directory it is, counted from 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.journal.known_synced().0
    }

    /// The generation of the file that is there; `None` if there is none.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn generation_of(disk: &D, dir: &Path, shard: u32) -> Result<Option<u64>, StateError> {
        let content = journal::read(disk, dir, shard)?;
        Ok((!content.recovery.created).then_some(content.generation))
    }

    /// What opening found.
    #[must_use]
    pub fn recovery(&self) -> StateRecovery {
        self.recovery
    }

    /// The state of a group; the default, if nothing was ever kept.
    #[must_use]
    pub fn get(&self, group: GroupId) -> GroupState {
        self.groups.get(&group).copied().unwrap_or_default()
    }

    /// All groups that something is kept for.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, GroupState)> + '_ {
        self.groups.iter().map(|(group, state)| (*group, *state))
    }

    /// Keeps a hard state: written with the next [`StateFile::begin_sync`].
    ///
    /// # Panics
    /// If the term falls, or the vote changes within a term: bugs of the caller that would elect two leaders.
    pub fn set_hard_state(&mut self, group: GroupId, hard_state: HardState) {
        let state = self.groups.entry(group).or_default();
        let before = state.hard_state;
        assert!(
            hard_state.term >= before.term,
            "group {group}: the term falls from {} to {}",
            before.term,
            hard_state.term
        );
        assert!(
            hard_state.term > before.term
                || before.voted_for.is_none()
                || before.voted_for == hard_state.voted_for,
            "group {group}: the vote in term {} changes",
            before.term
        );
        state.hard_state = hard_state;
        self.due.insert(group);
    }

    /// Keeps a commit hint: written when it is convenient. Hints never fall.
    pub fn note_commit(&mut self, group: GroupId, commit: Index) {
        let state = self.groups.entry(group).or_default();
        if commit > state.commit_hint {
            state.commit_hint = commit;
            self.lazily_due.insert(group);
        }
    }

    /// Keeps a durable floor: written when it is convenient. Floors never fall.
    pub fn note_floor(&mut self, group: GroupId, floor: Position) {
        let state = self.groups.entry(group).or_default();
        if floor > state.floor {
            state.floor = floor;
            self.lazily_due.insert(group);
            self.floors.note(group, floor);
        }
    }

    /// Leaves the floors, and how far this file is synced, for the next process on this machine. Before anything is
    /// acknowledged for the sync that was confirmed: else what was acknowledged and went bad would look like a torn tail.
    ///
    /// # Errors
    /// As the disk says. The floors of the last flush count then.
    pub fn write_floors(&mut self) -> io::Result<()> {
        self.floors.note_journal(self.journal.known_synced());
        self.floors.write()
    }

    /// Forgets a group, with the next [`StateFile::begin_sync`].
    pub fn remove(&mut self, group: GroupId) {
        if self.groups.remove(&group).is_some() {
            self.lazily_due.remove(&group);
            self.floors.forget(group);
            self.due.insert(group);
        }
    }

    /// Whether [`StateFile::begin_sync`] with [`Lazy::Flush`] would write something.
    #[must_use]
    pub fn is_due(&self, lazy: Lazy) -> bool {
        let flush = lazy == Lazy::Flush;
        !self.due.is_empty() || (flush && (!self.lazily_due.is_empty() || self.mark_wanted()))
    }

    /// Writes what is due, and says what has to be synced; `None` if nothing is due. Several tickets may be under way.
    ///
    /// # Errors
    /// See [`StateWriteError`].
    pub fn begin_sync(&mut self, lazy: Lazy) -> Result<Option<StateTicket<D>>, StateWriteError> {
        if !self.is_due(lazy) {
            return Ok(None);
        }
        let mut writing = self.due.clone();
        if lazy == Lazy::Flush {
            writing.extend(&self.lazily_due);
        }
        let bodies = if writing.is_empty() { vec![Body::Mark] } else { self.bodies(&writing) };
        if self.journal.wants_rewrite(bodies.len(), self.groups.len()) {
            let everything = self.bodies(&self.groups.keys().copied().collect());
            self.journal.rewrite(&everything)?;
        } else {
            self.journal.append(&bodies)?;
        }
        let hard_states = self.due.iter().map(|group| (*group, self.get(*group).hard_state)).collect();
        if !self.due.is_empty() {
            self.last_vital = self.journal.last_sequence();
        }
        self.due.clear();
        self.lazily_due.retain(|group| !writing.contains(group));
        let (files, dirs) = self.journal.to_sync();
        let through = self.journal.last_sequence();
        Ok(Some(StateTicket { disk: self.journal.disk().clone(), files, dirs, through, hard_states }))
    }

    /// The ticket was run with success.
    pub fn done(&mut self, ticket: StateTicket<D>) {
        self.journal.synced(ticket.through);
    }

    /// Whether the last hard states are synced, but no record says so yet. Until one does, damage to them would look
    /// like a torn tail. A hint or floor written later says it as well; a record for this alone is written only when
    /// the shard has nothing else to flush.
    fn mark_wanted(&self) -> bool {
        self.journal.is_synced(self.last_vital) && !self.journal.is_vouched_for(self.last_vital)
    }

    fn bodies(&self, groups: &BTreeSet<GroupId>) -> Vec<Body> {
        let body = |group: &GroupId| match self.groups.get(group) {
            Some(state) => Body::State(*group, *state),
            None => Body::Removed(*group),
        };
        groups.iter().map(body).collect()
    }
}

#[cfg(test)]
mod tests;
