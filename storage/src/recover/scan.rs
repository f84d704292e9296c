//! Reading segment files entry by entry, checking everything.

use super::newer;
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, HeaderError, OpenError};
use crate::index::{SparseIndex, batch_time_max};
use crate::segment::{
    COMPACTED_HEADER_BYTES, Dirty, SEGMENT_VERSION, Segment, SegmentHeader, crc32, sequence_of, u32_at,
};
use raftline_proto::entry::gap::Gap;
use raftline_proto::entry::{self, EntryError, EntryHeader, EntryKind};
use raftline_proto::ids::{EntryId, GroupId, Index, Offset};
use std::io;
use std::path::Path;

/// One segment file as found.
pub(super) struct Scan {
    pub(super) sequence: u64,
    pub(super) len: u64,
    pub(super) state: Result<Scanned, Damage>,
}

/// A segment with a good header.
pub(super) struct Scanned {
    pub(super) header: SegmentHeader,
    pub(super) up_to: Index,
    pub(super) end: u64,
    pub(super) next_offset: Offset,
    pub(super) index: SparseIndex,
    pub(super) dirty: Dirty,
    /// The first entry of each term in this segment, the first entry's always among them.
    pub(super) terms: Vec<EntryId>,
    pub(super) stop: Damage,
    /// How far behind the last entry bytes other than zero reach.
    pub(super) tail_used: u64,
}

/// Opens and scans every segment file, in order of sequence.
pub(super) fn scan_all<D: Disk>(disk: &D, dir: &Path, group: GroupId) -> Result<Vec<Scan>, OpenError> {
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
    let head = reader.bytes(0, len.min(COMPACTED_HEADER_BYTES)).map_err(failed)?.unwrap_or(&[]);
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

/// Reads entries until something is not the next entry.
fn scan_entries<F: DiskFile>(reader: &mut Reader<'_, F>, header: SegmentHeader) -> io::Result<Scanned> {
    let mut scanned = Scanned {
        header,
        up_to: header.base_index(),
        end: header.entries_at(),
        next_offset: header.base_offset,
        index: SparseIndex::default(),
        dirty: Dirty { at: header.entries_at(), time: None },
        terms: Vec::new(),
        stop: Damage::Entry(EntryError::Empty),
        tail_used: 0,
    };
    let mut expected = Expected::after(header.group, header.previous, header.base_offset);
    loop {
        match next_entry(reader, scanned.end, &expected)? {
            Ok(frame) => {
                let header = frame.header;
                let time_max = batch_time_max(header.kind, [frame.payload(), &[]]);
                scanned.index.note(&header, scanned.end, time_max);
                if scanned.terms.last().is_none_or(|last| last.term != header.id.term) {
                    scanned.terms.push(header.id);
                }
                scanned.end += header.entry_bytes();
                scanned.dirty.note(&scanned.header, header.id.index, scanned.end, time_max);
                expected.advance(&frame);
            }
            Err(damage) => {
                scanned.up_to = expected.index;
                scanned.next_offset = expected.offset;
                scanned.stop = damage;
                scanned.tail_used = tail_used(reader, scanned.end)?;
                return Ok(scanned);
            }
        }
    }
}

/// How far behind `from` bytes other than zero reach.
fn tail_used<F: DiskFile>(reader: &mut Reader<'_, F>, from: u64) -> io::Result<u64> {
    let (mut at, mut used) = (from, 0);
    while at < reader.len {
        let step = (reader.len - at).min(READ_BYTES);
        let Some(bytes) = reader.bytes(at, step)? else { break };
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            used = at + last as u64 + 1 - from;
        }
        at += step;
    }
    Ok(used)
}

/// A frame of a segment file: an entry, or the gap that several have left.
pub(crate) struct Frame<'r> {
    /// Of the first entry, if it is a gap, with the offsets of all.
    pub(crate) header: EntryHeader,
    pub(crate) gap: Option<Gap>,
    /// Header and payload.
    pub(crate) bytes: &'r [u8],
}

impl<'r> Frame<'r> {
    pub(crate) fn payload(&self) -> &'r [u8] {
        &self.bytes[entry::HEADER_BYTES..]
    }

    /// One past its last entry.
    pub(crate) fn up_to(&self) -> Index {
        self.gap.as_ref().map_or(self.header.id.index.next(), Gap::up_to)
    }
}

/// The gap in a frame of that kind.
pub(crate) fn gap_in(header: &EntryHeader, payload: &[u8]) -> Result<Option<Gap>, EntryError> {
    if header.kind == EntryKind::Gap { Gap::decode(header, payload).map(Some) } else { Ok(None) }
}

/// Reads and verifies the frame at `at`.
pub(crate) fn next_entry<'r, F: DiskFile>(
    reader: &'r mut Reader<'_, F>,
    at: u64,
    expected: &Expected,
) -> io::Result<Result<Frame<'r>, Damage>> {
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
            let good = frame.is_some_and(|frame| u32_at(frame, 0) == crc32(&frame[4..]));
            let damaged = EntryError::Version { found }.into();
            return Ok(Err(if good { Damage::NewerEntry { found } } else { damaged }));
        }
        Err(error) => return Ok(Err(error.into())),
    };
    let Some(bytes) = reader.bytes(at, bytes_needed)? else {
        return Ok(Err(EntryError::Truncated { needed: bytes_needed, available }.into()));
    };
    Ok(EntryHeader::verify(bytes).map_err(Damage::from).and_then(|header| {
        expected.check(&header)?;
        let gap = gap_in(&header, &bytes[entry::HEADER_BYTES..])?;
        Ok(Frame { header, gap, bytes })
    }))
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
    fn check(&self, header: &EntryHeader) -> Result<(), Damage> {
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

    pub(crate) fn advance(&mut self, frame: &Frame<'_>) {
        self.previous = frame.header.id;
        self.index = frame.up_to();
        self.offset = frame.header.next_offset();
    }
}

/// Cuts a segment's view so that `from` and all after it are gone. `from` is one of its entries or the next, and not
/// within a gap.
pub(crate) fn cut<F: DiskFile>(segment: &mut Segment, file: &F, from: Index) -> io::Result<()> {
    assert!(segment.base_index() <= from && from <= segment.up_to, "entry {from} is not in this segment");
    if from == segment.up_to {
        return Ok(());
    }
    let mut index = segment.index.clone();
    let point = index.cut(from);
    let mut at = point.map_or(segment.header.entries_at(), |point| point.at);
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
        let gap = gap_in(&header, payload).map_err(io::Error::other)?;
        index.note(&header, at, batch_time_max(header.kind, [payload, &[]]));
        at += header.entry_bytes();
        next_offset = header.next_offset();
        next_index = gap.map_or(next_index.next(), |gap| gap.up_to());
    }
    if next_index != from {
        return Err(io::Error::other(Damage::Index { expected: from, found: next_index }));
    }
    segment.dirty.time = segment.dirty.time.filter(|(index, _)| *index < from);
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
