//! What a log's directory holds: every segment scanned and checked, and the chain of those that make up the log.
//!
//! Reads only. [`crate::Log::open`] acts on the result; the offline tools and the simulator's checkers only look.
//!
//! The rule is the durable floor's. The scan stops at the first bytes that are not the next entry. If everything up
//! to the floor was found, the rest was never vouched for: it is cut. If not, bytes are gone that may have been
//! acknowledged: nothing is cut, and the error names the place.

mod chain;
mod scan;

pub(crate) use scan::{Expected, Frame, Reader, cut, gap_in, next_entry};

use crate::disk::Disk;
use crate::error::{Damage, OpenError};
use crate::segment::{Segment, SegmentHeader, file_name};
use chain::{chain, check_floor};
use raftline_proto::ids::{EntryId, GroupId, Index, Position};
use scan::{Scan, Scanned, scan_all};
use std::io;
use std::path::{Path, PathBuf};

/// What opening a log found, for logging and for the offline tools.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// The segment files found, in order of their sequence.
    pub segments: Vec<SegmentFacts>,
    /// Bytes after the end of the log that are neither entries nor zeros' space: a torn tail, cut.
    pub bytes_cut: u64,
    /// Bytes written again and synced, because it was not known whether they were durable.
    pub bytes_settled: u64,
}

/// What was found in one segment file.
#[derive(Clone, Debug)]
pub struct SegmentFacts {
    /// The file.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its header, if it is readable.
    pub header: Option<SegmentHeader>,
    /// One past the last valid entry, and the file offset after it.
    pub end: Option<(Index, u64)>,
    /// Why the scan ended there. `EntryError::Empty` is the normal end.
    pub stop: Damage,
    /// Whether it is a part of the log as it is now.
    pub live: bool,
}

/// The result of a scan of a directory.
pub(crate) struct Recovered {
    /// The log's segments, ascending, each cut to what the next one leaves of it.
    pub(crate) segments: Vec<Segment>,
    /// The first entry of each term.
    pub(crate) terms: Vec<EntryId>,
    /// Sequences of the files that are not part of the log.
    pub(crate) dead: Vec<u64>,
    /// Higher than any sequence in use.
    pub(crate) next_sequence: u64,
    /// Whether what follows the last entry is only zeros, so that the last segment may be written on.
    pub(crate) tail_is_zero: bool,
    pub(crate) facts: Recovery,
}

/// Scans `dir`. A missing directory is an empty log.
pub(crate) fn recover<D: Disk>(
    disk: &D,
    dir: &Path,
    group: GroupId,
    floor: Position,
) -> Result<Recovered, OpenError> {
    let scans = scan_all(disk, dir, group)?;
    let live = chain(&scans);
    check_floor(&scans, &live, dir, floor)?;
    let mut recovered = Recovered {
        segments: Vec::with_capacity(live.len()),
        terms: Vec::new(),
        dead: Vec::new(),
        next_sequence: scans.iter().map(last_sequence).max().unwrap_or(0) + 1,
        tail_is_zero: true,
        facts: Recovery::default(),
    };
    for (nth, scan) in scans.into_iter().enumerate() {
        let path = dir.join(file_name(scan.sequence));
        recovered.facts.segments.push(facts_of(&scan, &path, live.contains(&nth)));
        match scan.state {
            Ok(scanned) if live.contains(&nth) => {
                push_live(disk, &path, scanned, scan.len, &mut recovered)
                    .map_err(|source| OpenError::Io { file: path, source })?;
            }
            Ok(_) | Err(_) => recovered.dead.push(scan.sequence),
        }
    }
    Ok(recovered)
}

/// The last sequence that a file stands for. None of them is given out again: while a compacted segment is there, files
/// with those that it replaced are void.
fn last_sequence(scan: &Scan) -> u64 {
    scan.state.as_ref().map_or(scan.sequence, |scanned| scanned.header.last_sequence()).max(scan.sequence)
}

fn facts_of(scan: &Scan, path: &Path, live: bool) -> SegmentFacts {
    let scanned = scan.state.as_ref();
    SegmentFacts {
        file: path.to_path_buf(),
        bytes: scan.len,
        header: scanned.ok().map(|scanned| scanned.header),
        end: scanned.ok().map(|scanned| (scanned.up_to, scanned.end)),
        stop: scanned.map_or_else(|damage| *damage, |scanned| scanned.stop),
        live,
    }
}

/// Adds the next live segment: cuts the one before to what this one leaves of it.
fn push_live<D: Disk>(
    disk: &D,
    path: &Path,
    scanned: Scanned,
    len: u64,
    recovered: &mut Recovered,
) -> io::Result<()> {
    let base_index = scanned.header.base_index();
    if let Some(before) = recovered.segments.last_mut() {
        if before.up_to > base_index {
            let path = path.with_file_name(before.header.file_name());
            cut(before, &*disk.open(&path)?, base_index)?;
        }
        recovered.terms.retain(|start| start.index < base_index);
    }
    for start in scanned.terms {
        if recovered.terms.last().is_none_or(|last| last.term != start.term) {
            recovered.terms.push(start);
        }
    }
    // Nothing is ever written behind a compacted segment's entries: its header says where they end.
    let is_compacted = scanned.header.compacted.is_some();
    recovered.tail_is_zero = scanned.tail_used == 0 && !is_compacted;
    recovered.facts.bytes_cut = scanned.tail_used;
    recovered.segments.push(Segment {
        header: scanned.header,
        up_to: scanned.up_to,
        end: scanned.end,
        next_offset: scanned.next_offset,
        // Where something stands behind the last entry, the whole file counts as written.
        written: if scanned.tail_used == 0 { scanned.end } else { len },
        allocated: len,
        index: scanned.index,
        dirty: scanned.dirty,
    });
    Ok(())
}

fn newer(path: &Path, what: &'static str, found: u16, known: u16) -> OpenError {
    OpenError::NewerVersion { file: path.to_path_buf(), what, found, known }
}
