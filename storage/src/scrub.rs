//! Looking at what nobody reads: every byte of every log, over and over, a little at a time.
//!
//! A scrub knows nothing of the logs but their files, so it may run on any thread beside them. Where it cannot go on it
//! only suspects: the file's entries end there, or somebody is writing just now, or bytes have gone bad.
//! [`Log::examine`], on the log's own thread, tells which.

use crate::disk::{Disk, DiskFile};
use crate::error::ReadError;
use crate::log::Log;
use crate::segment::{COMPACTED_HEADER_BYTES, SegmentHeader, file_name, sequence_of};
use raftline_proto::entry::{EntryHeader, HEADER_BYTES};
use raftline_proto::ids::GroupId;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

/// Goes through the segment files below a directory of groups, again and again.
pub struct Scrub<D: Disk> {
    disk: D,
    groups_dir: PathBuf,
    /// The groups that this pass has still to come by, ascending; `None` before it.
    groups: Option<VecDeque<GroupId>>,
    /// In the first of them.
    place: Place,
}

/// The next frame of a group to be looked at: in the first file at or after this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    sequence: u64,
    at: u64,
}

/// A place that does not hold an entry as far as a scrub can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Whose log.
    pub group: GroupId,
    /// The segment.
    pub sequence: u64,
    /// The byte in its file.
    pub at: u64,
}

/// What one step of a scrub has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// How much was read.
    pub bytes: u64,
    /// Where a file could not be read on, if it was.
    pub suspect: Option<Suspect>,
    /// Whether it begins anew with the next step.
    pub is_end: bool,
}

impl<D: Disk> Scrub<D> {
    /// Begins with the first group that has a directory in `groups_dir`.
    #[must_use]
    pub fn new(disk: D, groups_dir: PathBuf) -> Self {
        Self { disk, groups_dir, groups: None, place: Place::default() }
    }

    /// Looks at the next `bytes_max` of one file, or at one entry if that is larger.
    ///
    /// # Errors
    /// If a directory cannot be listed, for want of a descriptor most often. The next step tries again.
    pub fn step(&mut self, bytes_max: u64) -> io::Result<Scrubbed> {
        let Some((group, Place { sequence, at })) = self.next_file()? else {
            return Ok(Scrubbed { is_end: true, ..Scrubbed::default() });
        };
        let path = self.group_dir(group).join(file_name(sequence));
        let (bytes, ended) = match self.disk.open(&path).and_then(|file| look(&*file, at, bytes_max)) {
            Ok(looked) => looked,
            // Removed just now, or it cannot be read: the log is to find out whether it misses something.
            Err(_) => (0, Ended::At(at)),
        };
        let (place, suspect) = match ended {
            Ended::Not { next } => (Place { sequence, at: next }, None),
            Ended::At(at) => (Place { sequence: sequence + 1, at: 0 }, Some(Suspect { group, sequence, at })),
        };
        self.place = place;
        Ok(Scrubbed { bytes, suspect, is_end: false })
    }

    /// The place to go on at; `None` after the last file.
    fn next_file(&mut self) -> io::Result<Option<(GroupId, Place)>> {
        if self.groups.is_none() {
            let groups = listed(&self.disk, &self.groups_dir)?;
            let mut groups: Vec<GroupId> =
                groups.iter().filter_map(|name| name.parse().ok().map(GroupId)).collect();
            groups.sort_unstable();
            self.groups = Some(groups.into());
        }
        while let Some(group) = self.groups.as_ref().and_then(|groups| groups.front().copied()) {
            let names = listed(&self.disk, &self.group_dir(group))?;
            let from = self.place;
            let sequences = names.iter().filter_map(|name| sequence_of(name));
            if let Some(sequence) = sequences.filter(|found| *found >= from.sequence).min() {
                let at = if sequence == from.sequence { from.at } else { 0 };
                return Ok(Some((group, Place { sequence, at })));
            }
            self.place = Place::default();
            self.groups.as_mut().and_then(VecDeque::pop_front);
        }
        self.groups = None;
        Ok(None)
    }

    fn group_dir(&self, group: GroupId) -> PathBuf {
        self.groups_dir.join(group.to_string())
    }
}

fn listed<D: Disk>(disk: &D, dir: &Path) -> io::Result<Vec<String>> {
    match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names,
    }
}

/// Whether there is more in a file.
enum Ended {
    Not { next: u64 },
    At(u64),
}

/// Checks the frames of a file from `at` on. How much was read, and where to go on.
fn look<F: DiskFile>(file: &F, at: u64, bytes_max: u64) -> io::Result<(u64, Ended)> {
    let len = file.len()?;
    let end = len.min(at.saturating_add(bytes_max.max(COMPACTED_HEADER_BYTES)));
    if at >= end {
        return Ok((0, Ended::At(at)));
    }
    let bytes = file.read(at, end)?;
    let mut read = end - at;
    let mut place = 0;
    if at == 0 {
        match SegmentHeader::decode(&bytes) {
            Ok(header) => place = header.entries_at(),
            Err(_) => return Ok((read, Ended::At(0))),
        }
    }
    loop {
        let rest = usize::try_from(place).ok().and_then(|place| bytes.get(place..)).unwrap_or(&[]);
        let next = at + place;
        if rest.len() < HEADER_BYTES {
            // The next step begins with it, or the file ends.
            let ended = if end == len { Ended::At(next) } else { Ended::Not { next } };
            return Ok((read, ended));
        }
        let Ok(header) = EntryHeader::decode(rest) else { return Ok((read, Ended::At(next))) };
        let entry_bytes = header.entry_bytes();
        let whole = usize::try_from(entry_bytes).ok().and_then(|entry_bytes| rest.get(..entry_bytes));
        let sound = match whole {
            Some(entry) => EntryHeader::verify(entry).is_ok(),
            None if place > 0 && next + entry_bytes <= len => return Ok((read, Ended::Not { next })),
            None if next + entry_bytes <= len => {
                read += entry_bytes;
                EntryHeader::verify(&file.read(next, next + entry_bytes)?).is_ok()
            }
            None => false,
        };
        if !sound {
            return Ok((read, Ended::At(next)));
        }
        place += entry_bytes;
    }
}

impl<D: Disk> Log<D> {
    /// Whether the log misses something at a place that a scrub suspects.
    ///
    /// # Errors
    /// If it does, as [`Log::read_entries`].
    pub fn examine(&self, sequence: u64, at: u64) -> Result<(), ReadError> {
        let found = |segment: &crate::segment::Segment| segment.header.sequence == sequence;
        let Some(nth) = self.segments.iter().position(found) else { return Ok(()) };
        let segment = &self.segments[nth];
        if at >= segment.end {
            return Ok(());
        }
        let mut walk = self.walk_from(nth, segment.index.by_place(at));
        if at < segment.header.entries_at() {
            walk.segment_header()?;
        }
        while let Some(step) = walk.next()? {
            if step.nth != nth {
                break;
            }
            walk.frame(&step)?;
            if step.at > at {
                break;
            }
        }
        Ok(())
    }
}
