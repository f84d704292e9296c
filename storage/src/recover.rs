//! What a log's directory holds: every segment scanned and checked, and the chain of those that make up the log.
//!
//! Reads only. [`crate::Log::open`] acts on the result; the offline tools and the simulator's checkers only look.
//!
//! The rule is the durable floor's. The scan stops at the first bytes that are not the next entry. If everything up
//! to the floor was found, the rest was never vouched for: it is cut. If not, bytes are gone that may have been
//! acknowledged: nothing is cut, and the error names the place.

use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, HeaderError, OpenError};
use crate::index::{SparseIndex, batch_time_max};
use crate::segment::{
    SEGMENT_HEADER_BYTES, SEGMENT_VERSION, Segment, SegmentHeader, SegmentStart, sequence_of, u32_at,
};
use raftline_proto::entry::{self, EntryError, EntryHeader};
use raftline_proto::ids::{EntryId, GroupId, Index, Offset, Position};
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
    /// Why the scan ended there. [`EntryError::Empty`] is the normal end.
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

/// One segment file as found.
struct Scan {
    sequence: u64,
    len: u64,
    state: Result<Scanned, Damage>,
}

/// A segment with a good header.
struct Scanned {
    header: SegmentHeader,
    up_to: Index,
    end: u64,
    next_offset: Offset,
    index: SparseIndex,
    /// The first entry of each term in this segment, the first entry's always among them.
    terms: Vec<EntryId>,
    stop: Damage,
}

/// Scans `dir`. A missing directory is an empty log.
pub(crate) fn recover<D: Disk>(
    disk: &D,
    dir: &Path,
    group: GroupId,
    floor: Position,
) -> Result<Recovered, OpenError> {
    let scans = scan_all(disk, dir, group)?;
    let live = chain(&scans, floor);
    check_floor(&scans, &live, dir, floor)?;
    let mut recovered = Recovered {
        segments: Vec::with_capacity(live.len()),
        terms: Vec::new(),
        dead: Vec::new(),
        next_sequence: scans.last().map_or(1, |scan| scan.sequence + 1),
        tail_is_zero: true,
        facts: Recovery::default(),
    };
    for (nth, scan) in scans.into_iter().enumerate() {
        let path = dir.join(crate::segment::file_name(scan.sequence));
        recovered.facts.segments.push(facts_of(&scan, &path, live.contains(&nth)));
        match scan.state {
            Ok(scanned) if live.contains(&nth) => {
                push_live(disk, &path, scanned, scan.len, &mut recovered)
                    .map_err(|source| OpenError::Io { file: path, source })?;
            }
            Ok(_) | Err(_) => recovered.dead.push(scan.sequence),
        }
    }
    inspect_tail(disk, dir, &mut recovered)?;
    Ok(recovered)
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
    recovered.segments.push(Segment {
        header: scanned.header,
        up_to: scanned.up_to,
        end: scanned.end,
        next_offset: scanned.next_offset,
        written: scanned.end,
        allocated: len,
        index: scanned.index,
    });
    Ok(())
}

/// Looks at what follows the last entry. All segments but the last count as written through their whole file.
fn inspect_tail<D: Disk>(
    disk: &D,
    dir: &Path,
    recovered: &mut Recovered,
) -> Result<(), OpenError> {
    for segment in &mut recovered.segments {
        segment.written = segment.allocated.max(segment.end);
    }
    let Some(last) = recovered.segments.last_mut() else { return Ok(()) };
    let path = dir.join(last.header.file_name());
    let tail_used = tail_used(disk, &path, last.end, last.allocated)
        .map_err(|source| OpenError::Io { file: path, source })?;
    recovered.tail_is_zero = tail_used == 0;
    recovered.facts.bytes_cut = tail_used;
    if tail_used == 0 {
        last.written = last.end;
    }
    Ok(())
}

/// How far into `[from, up_to)` bytes other than zero reach.
fn tail_used<D: Disk>(disk: &D, path: &Path, from: u64, up_to: u64) -> io::Result<u64> {
    if from >= up_to {
        return Ok(0);
    }
    let file = disk.open(path)?;
    let mut reader = Reader::new(&*file, up_to);
    let (mut at, mut used) = (from, 0);
    while at < up_to {
        let step = (up_to - at).min(READ_BYTES);
        let Some(bytes) = reader.bytes(at, step)? else { break };
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            used = at + last as u64 + 1 - from;
        }
        at += step;
    }
    Ok(used)
}

/// Opens and scans every segment file, in order of sequence.
fn scan_all<D: Disk>(disk: &D, dir: &Path, group: GroupId) -> Result<Vec<Scan>, OpenError> {
    let names = match disk.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(OpenError::Io { file: dir.to_path_buf(), source }),
    };
    let mut scans = Vec::new();
    for name in names {
        if let Some(sequence) = sequence_of(&name) {
            scans.push(scan_file(disk, &dir.join(name), sequence, group)?);
        }
    }
    Ok(scans)
}

fn scan_file<D: Disk>(disk: &D, path: &Path, sequence: u64, group: GroupId) -> Result<Scan, OpenError> {
    let failed = |source| OpenError::Io { file: path.to_path_buf(), source };
    let file = disk.open(path).map_err(failed)?;
    let len = file.len().map_err(failed)?;
    let mut reader = Reader::new(&*file, len);
    let head = reader.bytes(0, SEGMENT_HEADER_BYTES).map_err(failed)?.unwrap_or(&[]);
    let header = match SegmentHeader::decode(head) {
        Ok(header) => header,
        Err(HeaderError::Version { found }) => {
            return Err(newer(path, "segment format", found, SEGMENT_VERSION));
        }
        Err(error) => return Ok(Scan { sequence, len, state: Err(error.into()) }),
    };
    if header.group != group {
        return Err(OpenError::WrongGroup { file: path.to_path_buf(), expected: group, found: header.group });
    }
    if header.sequence != sequence {
        let error = HeaderError::Sequence { expected: sequence, found: header.sequence };
        return Ok(Scan { sequence, len, state: Err(error.into()) });
    }
    let scanned = scan_entries(&mut reader, header).map_err(failed)?;
    if let Damage::NewerEntry { found } = scanned.stop {
        return Err(newer(path, "entry", found.into(), entry::VERSION.into()));
    }
    Ok(Scan { sequence, len, state: Ok(scanned) })
}

fn newer(path: &Path, what: &'static str, found: u16, known: u16) -> OpenError {
    OpenError::NewerVersion { file: path.to_path_buf(), what, found, known }
}

/// Reads entries until something is not the next entry.
fn scan_entries<F: DiskFile>(reader: &mut Reader<'_, F>, header: SegmentHeader) -> io::Result<Scanned> {
    let mut scanned = Scanned {
        header,
        up_to: header.base_index(),
        end: SEGMENT_HEADER_BYTES,
        next_offset: header.base_offset,
        index: SparseIndex::default(),
        terms: Vec::new(),
        stop: Damage::Entry(EntryError::Empty),
    };
    let mut expected = Expected::after(header.group, header.previous, header.base_offset);
    loop {
        match next_entry(reader, scanned.end, &expected)? {
            Ok((header, payload)) => {
                let time_max = batch_time_max(header.kind, [payload, &[]]);
                scanned.index.note(&header, scanned.end, time_max);
                if scanned.terms.last().is_none_or(|last| last.term != header.id.term) {
                    scanned.terms.push(header.id);
                }
                scanned.end += header.entry_bytes();
                expected.advance(&header);
            }
            Err(damage) => {
                scanned.up_to = expected.index;
                scanned.next_offset = expected.offset;
                scanned.stop = damage;
                return Ok(scanned);
            }
        }
    }
}

/// Reads and verifies the entry at `at`.
fn next_entry<'r, F: DiskFile>(
    reader: &'r mut Reader<'_, F>,
    at: u64,
    expected: &Expected,
) -> io::Result<Result<(EntryHeader, &'r [u8]), Damage>> {
    let available = reader.len.saturating_sub(at);
    let Some(head) = reader.bytes(at, entry::HEADER_BYTES as u64)? else {
        let error = EntryError::Truncated { needed: entry::HEADER_BYTES as u64, available };
        return Ok(Err(if available == 0 { EntryError::Empty } else { error }.into()));
    };
    let bytes_needed = match EntryHeader::decode(head) {
        Ok(header) => header.entry_bytes(),
        // A newer version is believed only if its checksum holds; else the byte is damage like any other. The size
        // and the checksum stay where they are in every later version (FORMAT.md).
        Err(EntryError::Version { found }) if found > entry::VERSION => {
            let bytes_needed = entry::HEADER_BYTES as u64 + u64::from(u32_at(head, 36));
            let frame = reader.bytes(at, bytes_needed)?;
            let good = frame.is_some_and(|frame| u32_at(frame, 0) == crate::segment::crc32(&frame[4..]));
            let damaged = EntryError::Version { found }.into();
            return Ok(Err(if good { Damage::NewerEntry { found } } else { damaged }));
        }
        Err(error) => return Ok(Err(error.into())),
    };
    let Some(bytes) = reader.bytes(at, bytes_needed)? else {
        return Ok(Err(EntryError::Truncated { needed: bytes_needed, available }.into()));
    };
    Ok(EntryHeader::verify(bytes)
        .map_err(Damage::from)
        .and_then(|header| expected.check(&header).map(|()| (header, &bytes[entry::HEADER_BYTES..]))))
}

/// What the next entry of a log has to be.
pub(crate) struct Expected {
    group: GroupId,
    pub(crate) index: Index,
    pub(crate) offset: Offset,
    previous: EntryId,
}

impl Expected {
    pub(crate) fn after(group: GroupId, previous: EntryId, offset: Offset) -> Self {
        Self { group, index: previous.index.next(), offset, previous }
    }

    /// Group, index, offset and term must all follow on: a stale or misdirected entry fails one of them.
    pub(crate) fn check(&self, header: &EntryHeader) -> Result<(), Damage> {
        if header.group != self.group {
            return Err(Damage::Group { expected: self.group, found: header.group });
        }
        if header.id.index != self.index {
            return Err(Damage::Index { expected: self.index, found: header.id.index });
        }
        if header.base_offset != self.offset {
            return Err(Damage::Offset { expected: self.offset, found: header.base_offset });
        }
        if header.id.term < self.previous.term {
            return Err(Damage::Term { previous: self.previous.term, found: header.id.term });
        }
        Ok(())
    }

    pub(crate) fn advance(&mut self, header: &EntryHeader) {
        self.previous = header.id;
        self.index = header.id.index.next();
        self.offset = header.next_offset();
    }
}

/// Which of the scans make up the log, oldest first.
///
/// Going forward in sequence, a segment joins if it begins a log, or if the log so far holds the entry that it
/// follows; then what came after that entry is void. By Raft's Log Matching the same (term, index) means the same
/// history, so that a segment can never join a log that it was not written for. One that does not join follows
/// something that was lost, and is lost with it.
fn chain(scans: &[Scan], floor: Position) -> Vec<usize> {
    let mut live: Vec<usize> = Vec::new();
    let mut unreadable_before = false;
    for (nth, scan) in scans.iter().enumerate() {
        let Ok(scanned) = &scan.state else {
            unreadable_before |= live.is_empty();
            continue;
        };
        match scanned.header.start {
            SegmentStart::Begins => live = vec![nth],
            // The segments before were trimmed away. But if one of them is there and unreadable, then this may be the
            // rest of a log with a hole: it counts only if nothing of it was vouched for, and then not at all.
            SegmentStart::Continues if live.is_empty() => {
                if !unreadable_before || scanned.header.base_position < floor {
                    live.push(nth);
                }
            }
            SegmentStart::Continues => {
                if let Some(keep) = joins(scans, &live, scanned) {
                    live.truncate(keep);
                    live.push(nth);
                }
            }
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
fn check_floor(scans: &[Scan], live: &[usize], dir: &Path, floor: Position) -> Result<(), OpenError> {
    let file_of = |scan: &Scan| dir.join(crate::segment::file_name(scan.sequence));
    let corrupt = |file, at, position, reason| OpenError::Corrupt { file, at, position, floor, reason };
    let first_live = live.first().map_or(u64::MAX, |nth| scans[*nth].sequence);
    let last_live = live.last().and_then(|nth| scans[*nth].state.as_ref().ok().map(|state| (*nth, state)));
    let begins = live.first().is_some_and(|nth| {
        scans[*nth].state.as_ref().is_ok_and(|state| state.header.start == SegmentStart::Begins)
    });
    let end = last_live.map_or(Position::ZERO, |(_, last)| last.header.base_position + last.end);
    let hole = scans.iter().find(|scan| scan.state.is_err() && scan.sequence < first_live && !begins);
    if end >= floor && (hole.is_none() || live.is_empty()) {
        return Ok(());
    }
    if let Some(scan) = hole
        && let Err(reason) = scan.state
    {
        return Err(corrupt(file_of(scan), 0, Position::ZERO, reason));
    }
    if let Some((nth, last)) = last_live
        && last.stop != Damage::Entry(EntryError::Empty)
    {
        return Err(corrupt(file_of(&scans[nth]), last.end, end, last.stop));
    }
    for scan in scans.iter().skip(last_live.map_or(0, |(nth, _)| nth + 1)) {
        let reason = match &scan.state {
            Ok(scanned) => Damage::Detached { previous: scanned.header.previous },
            Err(reason) => *reason,
        };
        return Err(corrupt(file_of(scan), 0, end, reason));
    }
    match last_live {
        Some((nth, last)) if floor <= last.header.base_position + scans[nth].len => {
            Err(corrupt(file_of(&scans[nth]), last.end, end, last.stop))
        }
        _ => Err(corrupt(dir.to_path_buf(), 0, end, Damage::Missing)),
    }
}

/// Cuts a segment's view so that `from` and all after it are gone. `from` is one of its entries or the next.
pub(crate) fn cut<F: DiskFile>(segment: &mut Segment, file: &F, from: Index) -> io::Result<()> {
    assert!(segment.base_index() <= from && from <= segment.up_to, "entry {from} is not in this segment");
    if from == segment.up_to {
        return Ok(());
    }
    let mut index = segment.index.clone();
    let point = index.cut(from);
    let mut at = point.map_or(SEGMENT_HEADER_BYTES, |point| point.at);
    let mut next_offset = point.map_or(segment.header.base_offset, |point| point.offset);
    let mut next_index = point.map_or(segment.base_index(), |point| point.index);
    let mut reader = Reader::new(file, segment.end);
    while next_index < from {
        let head = reader.bytes(at, entry::HEADER_BYTES as u64)?.unwrap_or(&[]);
        let header = EntryHeader::decode(head).map_err(io::Error::other)?;
        let payload_at = at + entry::HEADER_BYTES as u64;
        let payload = reader.bytes(payload_at, u64::from(header.payload_bytes))?.unwrap_or(&[]);
        if header.id.index != next_index || header.base_offset != next_offset {
            let found = Damage::Index { expected: next_index, found: header.id.index };
            return Err(io::Error::other(found));
        }
        index.note(&header, at, batch_time_max(header.kind, [payload, &[]]));
        at += header.entry_bytes();
        next_offset = header.next_offset();
        next_index = next_index.next();
    }
    segment.index = index;
    segment.up_to = from;
    segment.end = at;
    segment.next_offset = next_offset;
    Ok(())
}

/// Reads a file through a buffer, by `read` and not by map, so that an unreadable sector is an error.
pub(crate) struct Reader<'a, F> {
    file: &'a F,
    len: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
}

/// One read call; entries may need more.
const READ_BYTES: u64 = 256 << 10;

impl<'a, F: DiskFile> Reader<'a, F> {
    pub(crate) fn new(file: &'a F, len: u64) -> Self {
        Self { file, len, buffer: Vec::new(), buffer_at: 0 }
    }

    /// `count` bytes from `at` on; `None` if the file ends before.
    pub(crate) fn bytes(&mut self, at: u64, count: u64) -> io::Result<Option<&[u8]>> {
        if at.checked_add(count).is_none_or(|up_to| up_to > self.len) {
            return Ok(None);
        }
        let buffered = at >= self.buffer_at && at + count <= self.buffer_at + self.buffer.len() as u64;
        if !buffered {
            let want = count.max(READ_BYTES).min(self.len - at);
            self.buffer.resize(usize::try_from(want).map_err(io::Error::other)?, 0);
            self.buffer_at = at;
            self.file.read_at(&mut self.buffer, at)?;
        }
        let start = usize::try_from(at - self.buffer_at).map_err(io::Error::other)?;
        let count = usize::try_from(count).map_err(io::Error::other)?;
        Ok(Some(&self.buffer[start..start + count]))
    }
}

