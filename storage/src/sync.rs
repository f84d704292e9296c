//! Making things durable: what one log wants synced, and the rounds in which many are synced together.

use crate::disk::{DirHold, Disk, DiskFile};
use crate::state::StateTicket;
use raftline_proto::ids::Position;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// What has to be synced for a log to be durable through [`SyncTicket::through`]. May be run on any thread.
pub struct SyncTicket<D: Disk> {
    pub(crate) disk: D,
    pub(crate) files: Vec<Arc<D::File>>,
    pub(crate) dirs: Vec<PathBuf>,
    /// Of these directories: a sync needs no descriptor more.
    pub(crate) _holds: Vec<DirHold>,
    pub(crate) through: SyncPoint,
}

/// What a ticket makes durable. Later tickets of a log have greater ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SyncPoint {
    /// All that is written up to here.
    pub(crate) position: Position,
    /// Counts the log's tickets: what was changed without moving the end is in those that came after.
    pub(crate) ticket: u64,
}

impl<D: Disk> SyncTicket<D> {
    /// Syncs files and directories one after the other.
    ///
    /// # Errors
    /// The first failure, which names the file. Never try again: stop the process.
    pub fn run(&self) -> io::Result<()> {
        sync_each(&self.disk, &self.files, &self.dirs)
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

    /// What to tell [`crate::Log::durable_through`] after success.
    #[must_use]
    pub fn through(&self) -> SyncPoint {
        self.through
    }
}

/// The tickets of one round, merged: each directory is synced once.
///
/// Order within a round does not matter: nothing counts as durable before the whole round is done.
pub struct SyncSet<D: Disk> {
    disk: D,
    files: Vec<Arc<D::File>>,
    dirs: BTreeSet<PathBuf>,
}

/// With more files and directories than this, one `syncfs` is cheaper than one sync each (docs/benchmarks.md).
pub const SYNC_EACH_MAX: usize = 8;

impl<D: Disk> SyncSet<D> {
    /// An empty round.
    #[must_use]
    pub fn new(disk: D) -> Self {
        Self { disk, files: Vec::new(), dirs: BTreeSet::new() }
    }

    /// Adds a log's ticket.
    pub fn add(&mut self, ticket: &SyncTicket<D>) {
        self.add_parts(&ticket.files, &ticket.dirs);
    }

    /// Adds a state file's ticket.
    pub fn add_state(&mut self, ticket: &StateTicket<D>) {
        self.add_parts(&ticket.files, &ticket.dirs);
    }

    fn add_parts(&mut self, files: &[Arc<D::File>], dirs: &[PathBuf]) {
        // Logs share no files, but groups made in one turn share their parent directory.
        self.files.extend(files.iter().map(Arc::clone));
        for dir in dirs {
            if !self.dirs.contains(dir) {
                self.dirs.insert(dir.clone());
            }
        }
    }

    /// How many files and directories there are to sync.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len() + self.dirs.len()
    }

    /// Whether there is nothing to sync.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Splits the round into at most `parts` that may run at the same time. The round is done when all of them are.
    /// A round that one `syncfs` does best stays whole.
    #[must_use]
    pub fn split(self, parts: usize) -> Vec<SyncPart<D>> {
        if self.is_empty() {
            return Vec::new();
        }
        let dirs: Vec<PathBuf> = self.dirs.into_iter().collect();
        let count = self.files.len() + dirs.len();
        let parts = if count > SYNC_EACH_MAX && self.disk.can_sync_filesystem() { 1 } else { parts };
        let mut split: Vec<SyncPart<D>> = (0..parts.clamp(1, count))
            .map(|_| SyncPart { disk: self.disk.clone(), files: Vec::new(), dirs: Vec::new() })
            .collect();
        let width = split.len();
        for (nth, file) in self.files.into_iter().enumerate() {
            split[nth % width].files.push(file);
        }
        for (nth, dir) in dirs.into_iter().rev().enumerate() {
            split[width - 1 - nth % width].dirs.push(dir);
        }
        split
    }

    /// Does the whole round on this thread.
    ///
    /// # Errors
    /// The first failure, which names the file. Never try again: stop the process.
    pub fn run(self) -> io::Result<()> {
        self.split(1).iter().try_for_each(SyncPart::run)
    }
}

/// A part of a round.
pub struct SyncPart<D: Disk> {
    disk: D,
    files: Vec<Arc<D::File>>,
    dirs: Vec<PathBuf>,
}

impl<D: Disk> SyncPart<D> {
    /// Does it: by one `syncfs` if that is possible and there are many, else one by one.
    ///
    /// # Errors
    /// The first failure, which names the file. Never try again: stop the process.
    pub fn run(&self) -> io::Result<()> {
        if self.files.len() + self.dirs.len() > SYNC_EACH_MAX
            && let Some(result) = self.disk.sync_filesystem()
        {
            return result;
        }
        sync_each(&self.disk, &self.files, &self.dirs)
    }
}

fn sync_each<D: Disk>(disk: &D, files: &[Arc<D::File>], dirs: &[PathBuf]) -> io::Result<()> {
    for file in files {
        file.sync_data()?;
    }
    for dir in dirs {
        disk.sync_dir(dir)?;
    }
    Ok(())
}
