//! Which segments make up the log, and whether that is all of it.

use super::scan::{Scan, Scanned};
use crate::error::{Damage, OpenError};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentStart, file_name};
use raftline_proto::entry::EntryError;
use raftline_proto::ids::Position;
use std::path::Path;

/// Which of the scans make up the log, oldest first.
///
/// Going forward in sequence, a segment joins if it begins a log, or if the log so far holds the entry that it
/// follows; then what came after that entry is void. By Raft's Log Matching the same (term, index) means the same
/// history, so that a segment can never join a log that it was not written for. One that does not join follows
/// something that was lost, and is lost with it.
pub(super) fn chain(scans: &[Scan]) -> Vec<usize> {
    let mut live: Vec<usize> = Vec::new();
    let mut replaced_through = 0;
    for (nth, scan) in scans.iter().enumerate() {
        let Ok(scanned) = &scan.state else { continue };
        // A power cut, or a kill, came before the files that a compacted segment replaces were gone.
        if scan.sequence <= replaced_through {
            continue;
        }
        let keep = match scanned.header.start {
            SegmentStart::Begins => Some(0),
            SegmentStart::Continues => joins(scans, &live, scanned),
        };
        if let Some(keep) = keep {
            live.truncate(keep);
            live.push(nth);
            replaced_through = scanned.header.last_sequence();
        }
    }
    live
}

/// How many of the live segments stay in front of `next`; `None` if they do not hold the entry that it follows.
fn joins(scans: &[Scan], live: &[usize], next: &Scanned) -> Option<usize> {
    let previous = next.header.previous;
    for keep in (1..=live.len()).rev() {
        let Ok(before) = &scans[live[keep - 1]].state else { continue };
        if next.header.base_position < before.header.base_position + SEGMENT_HEADER_BYTES {
            return None;
        }
        if before.header.previous.index > previous.index {
            continue;
        }
        if before.header.previous.index == previous.index {
            return (before.header.previous == previous).then_some(keep - 1);
        }
        let term = before.terms.iter().rev().find(|start| start.index <= previous.index)?.term;
        return (term == previous.term && previous.index < before.up_to).then_some(keep);
    }
    None
}

/// Refuses a log that ends before the floor, naming what is most likely to blame.
pub(super) fn check_floor(
    scans: &[Scan],
    live: &[usize],
    dir: &Path,
    floor: Position,
) -> Result<(), OpenError> {
    let file_of = |scan: &Scan| dir.join(file_name(scan.sequence));
    let corrupt = |file, at, position, reason| OpenError::Corrupt { file, at, position, floor, reason };
    for nth in live {
        let Ok(Scanned { header, up_to, end, next_offset, stop, .. }) = &scans[*nth].state else { continue };
        // It was synced as a whole before it got its name, and took the place of entries that were durable. So
        // whatever the floor, what is missing of it was vouched for.
        if let Some(range) = header.compacted
            && (range.up_to, range.end, range.next_offset) != (*up_to, *end, *next_offset)
        {
            let reason = if *stop == Damage::Entry(EntryError::Empty) { Damage::Missing } else { *stop };
            return Err(corrupt(file_of(&scans[*nth]), *end, header.position(*end), reason));
        }
    }
    let last_live = live.last().and_then(|nth| scans[*nth].state.as_ref().ok().map(|state| (*nth, state)));
    let end = last_live.map_or(Position::ZERO, |(_, last)| last.header.position(last.end));
    if end >= floor {
        return Ok(());
    }
    if let Some((nth, last)) = last_live
        && last.stop != Damage::Entry(EntryError::Empty)
    {
        return Err(corrupt(file_of(&scans[nth]), last.end, end, last.stop));
    }
    if let Some(scan) = scans.get(last_live.map_or(0, |(nth, _)| nth + 1)) {
        let reason = match &scan.state {
            Ok(scanned) => Damage::Detached { previous: scanned.header.previous },
            Err(reason) => *reason,
        };
        return Err(corrupt(file_of(scan), 0, end, reason));
    }
    match last_live {
        Some((nth, last)) => Err(corrupt(file_of(&scans[nth]), last.end, end, Damage::Missing)),
        None => Err(corrupt(dir.to_path_buf(), 0, end, Damage::Missing)),
    }
}
