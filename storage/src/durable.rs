//! What is durable: tickets out, confirmations in.
//!
//! A file stays on the list of those to sync until a sync through its last written position is *confirmed*. So a
//! ticket that was dropped unrun, or that overtook another, can never make bytes count that were not synced.
//!
//! A confirmation names a position, and positions only grow. It is looked up in the log as it is *now*:
//! 1. entries 1 to 5 are written, a sync begins through the position after 5;
//! 2. a new leader has 4 and 5 truncated and others appended: those lie at higher positions;
//! 3. the sync completes: the last entry at or below its position is now 3, and only 3 counts as durable.

use crate::disk::{DirHold, Disk};
use crate::log::{Durability, Log};
use crate::sync::{SyncPoint, SyncTicket};
use crate::trim::Beginning;
use raftline_proto::ids::{EntryId, Position};
use std::path::PathBuf;
use std::sync::Arc;

impl<D: Disk> Log<D> {
    /// What has to be synced for all that is written to be durable; `None` if it is. Several may be under way.
    pub fn begin_sync(&mut self) -> Option<SyncTicket<D>> {
        let through = self.end_position();
        let durability = &mut self.durability;
        if durability.files.is_empty() && durability.dirs.is_empty() && self.beginning.is_none() {
            return None;
        }
        durability.note_ticket(through);
        let mut files: Vec<Arc<D::File>> =
            durability.files.iter().map(|(file, _)| Arc::clone(file)).collect();
        if let Some(Beginning { file, .. }) = &self.beginning
            && !files.iter().any(|other| Arc::ptr_eq(other, file))
        {
            files.push(Arc::clone(file));
        }
        Some(SyncTicket {
            disk: self.files.disk.clone(),
            files,
            _holds: durability.dirs.iter().map(|(_, _, hold)| Arc::clone(hold)).collect(),
            dirs: durability.dirs.iter().map(|(dir, ..)| dir.clone()).collect(),
            through: SyncPoint { position: through, ticket: durability.tickets },
        })
    }

    /// A ticket was run with success: says through which entry the log, as it is now, is durable. Removes segments that
    /// have been waiting for the durability of those in their place, and of the log's new beginning.
    pub fn durable_through(&mut self, SyncPoint { position, ticket }: SyncPoint) -> EntryId {
        let written = self.written_position();
        assert!(position <= written, "a sync through {position}, but nothing was written above {written}");
        let durability = &mut self.durability;
        durability.through = durability.through.max(position);
        durability.files.retain(|(_, through)| *through > position);
        durability.dirs.retain(|(_, through, _)| *through > position);
        while let Some((end, id)) = durability.marks.front().copied()
            && end <= position
        {
            durability.last = id;
            durability.marks.pop_front();
        }
        // A dead segment that cannot be removed now is tried again at the next confirmation, or at the next start.
        let files = &self.files;
        durability.dead.retain(|(sequence, after)| *after > position || files.remove(*sequence).is_err());
        let last = durability.last;
        if let Some(beginning) = self.beginning.take_if(|beginning| beginning.after < ticket) {
            self.begin_with(beginning.sequence);
        }
        last
    }
}

impl<D: Disk> Durability<D> {
    /// A ticket goes out.
    fn note_ticket(&mut self, through: Position) {
        let bytes = through.since(self.ticketed);
        self.ticketed = through;
        self.tickets += 1;
        self.sync_bytes_mean = self.sync_bytes_mean - self.sync_bytes_mean / 8 + bytes / 8;
    }

    /// A file was written up to a position.
    pub(crate) fn note_written(&mut self, file: &Arc<D::File>, up_to: Position) {
        match self.files.iter_mut().find(|(held, _)| Arc::ptr_eq(held, file)) {
            Some((_, through)) => *through = up_to,
            None => self.files.push((Arc::clone(file), up_to)),
        }
    }

    /// Names in these directories changed, and must be durable with the position.
    pub(crate) fn note_names(&mut self, dirs: Vec<(PathBuf, DirHold)>, position: Position) {
        for (dir, hold) in dirs {
            match self.dirs.iter_mut().find(|(held, ..)| *held == dir) {
                Some((_, through, _)) => *through = position,
                None => self.dirs.push((dir, position, hold)),
            }
        }
    }

    /// Entries after `last`, which ends at `end`, are gone from the log.
    pub(crate) fn cut(&mut self, last: EntryId, end: Position) {
        while self.marks.back().is_some_and(|(_, id)| id.index > last.index) {
            self.marks.pop_back();
        }
        if self.last.index > last.index {
            self.last = last;
        }
        // The cut may fall between two marks: the entry before it is vouched for by a sync that reaches its end.
        let marked = self.marks.back().map_or(self.last.index, |(_, id)| id.index);
        if marked < last.index {
            self.marks.push_back((end, last));
        }
    }
}
