//! Walking through the frames of a log in order, checking each header against its place.

use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, ReadError};
use crate::index::Point;
use crate::log::Log;
use crate::recover::gap_in;
use crate::segment::Segment;
use bytes::Bytes;
use raftline_proto::entry::gap::Gap;
use raftline_proto::entry::{EntryHeader, EntryKind, HEADER_BYTES};
use raftline_proto::ids::{Index, Offset};

impl<D: Disk> Log<D> {
    /// Walks from the frame on that holds the entry `from`.
    pub(crate) fn walk_from_index(&self, from: Index) -> Walk<'_, D> {
        match self.segment_of(from) {
            Some(nth) => {
                let mut walk = self.walk_from(nth, self.segments[nth].index.by_index(from));
                walk.skip_below = from;
                walk
            }
            None => self.walk_from(self.segments.len(), None),
        }
    }

    /// Walks from a point of segment `nth`, or from its beginning.
    pub(crate) fn walk_from(&self, nth: usize, point: Option<Point>) -> Walk<'_, D> {
        let mut walk = Walk {
            log: self,
            nth,
            at: 0,
            index: Index::ZERO,
            offset: Offset::ZERO,
            skip_below: Index::ZERO,
            window: Window { bytes: Bytes::new(), nth, at: 0 },
        };
        walk.enter_segment();
        if let Some(point) = point {
            (walk.at, walk.index, walk.offset) = (point.at, point.index, point.offset);
        }
        walk
    }

    /// The bytes `[from, up_to)` of a segment's file.
    pub(crate) fn slice(&self, segment: &Segment, from: u64, up_to: u64) -> Result<Bytes, ReadError> {
        assert!(up_to <= segment.end, "bytes {from}..{up_to} of a segment that ends at {}", segment.end);
        let sequence = segment.header.sequence;
        self.files
            .get(sequence)
            .and_then(|file| file.slice(from, up_to))
            .map_err(|source| ReadError::Io { file: self.files.path(sequence), source })
    }
}

/// Goes through frames in order, checking each header against its place.
pub(crate) struct Walk<'a, D: Disk> {
    log: &'a Log<D>,
    /// The segment, and the place in its file, of the next frame.
    nth: usize,
    at: u64,
    /// What the next frame has to be.
    index: Index,
    offset: Offset,
    /// Frames whose entries are all below are walked over in silence.
    skip_below: Index,
    window: Window,
}

/// A piece of a segment that headers are read from.
struct Window {
    bytes: Bytes,
    nth: usize,
    at: u64,
}

/// One frame on the way.
pub(crate) struct Step {
    pub(crate) nth: usize,
    pub(crate) at: u64,
    /// Of the first entry, if it is a gap, with the offsets of all.
    pub(crate) header: EntryHeader,
    pub(crate) gap: Option<Gap>,
}

impl Step {
    pub(crate) fn payload_at(&self) -> u64 {
        self.at + HEADER_BYTES as u64
    }

    pub(crate) fn end(&self) -> u64 {
        self.at + self.header.entry_bytes()
    }

    /// One past its last entry.
    pub(crate) fn up_to(&self) -> Index {
        self.gap.as_ref().map_or(self.header.id.index.next(), Gap::up_to)
    }
}

/// How much is looked at at once. Small, because the simulated disk copies what it slices.
const WINDOW_BYTES: u64 = 16 << 10;

impl<D: Disk> Walk<'_, D> {
    pub(crate) fn next(&mut self) -> Result<Option<Step>, ReadError> {
        loop {
            let Some(segment) = self.log.segments.get(self.nth) else { return Ok(None) };
            if self.at >= segment.end {
                self.nth += 1;
                self.enter_segment();
                continue;
            }
            let header = self.read_header(segment)?;
            let gap = self.read_gap(segment, &header)?;
            let step = Step { nth: self.nth, at: self.at, header, gap };
            self.at = step.end();
            self.index = step.up_to();
            self.offset = header.next_offset();
            if self.index > self.skip_below {
                return Ok(Some(step));
            }
        }
    }

    fn enter_segment(&mut self) {
        if let Some(segment) = self.log.segments.get(self.nth) {
            self.at = segment.header.entries_at();
            self.index = segment.base_index();
            self.offset = segment.header.base_offset;
        }
    }

    fn read_header(&mut self, segment: &Segment) -> Result<EntryHeader, ReadError> {
        let (at, end) = (self.at, self.at + HEADER_BYTES as u64);
        let window = &self.window;
        if window.nth != self.nth || at < window.at || end > window.at + window.bytes.len() as u64 {
            let up_to = segment.end.min(at + WINDOW_BYTES);
            self.window = Window { bytes: self.log.slice(segment, at, up_to)?, nth: self.nth, at };
        }
        let start = usize::try_from(at - self.window.at).unwrap_or(usize::MAX);
        let bytes = self.window.bytes.get(start..).unwrap_or(&[]);
        EntryHeader::decode(bytes)
            .map_err(Damage::from)
            .and_then(|header| self.check(segment, &header).map(|()| header))
            .map_err(|reason| self.corrupt(segment, reason))
    }

    fn read_gap(&self, segment: &Segment, header: &EntryHeader) -> Result<Option<Gap>, ReadError> {
        if header.kind != EntryKind::Gap {
            return Ok(None);
        }
        let payload_at = self.at + HEADER_BYTES as u64;
        let payload = self.log.slice(segment, payload_at, self.at + header.entry_bytes())?;
        gap_in(header, &payload).map_err(|error| self.corrupt(segment, error.into()))
    }

    fn corrupt(&self, segment: &Segment, reason: Damage) -> ReadError {
        ReadError::Corrupt {
            file: self.log.files.path(segment.header.sequence),
            at: self.at,
            position: segment.position(self.at),
            reason,
        }
    }

    fn check(&self, segment: &Segment, header: &EntryHeader) -> Result<(), Damage> {
        if header.group != self.log.group {
            return Err(Damage::Group { expected: self.log.group, found: header.group });
        }
        if header.id.index != self.index || self.at + header.entry_bytes() > segment.end {
            return Err(Damage::Index { expected: self.index, found: header.id.index });
        }
        if header.base_offset != self.offset {
            return Err(Damage::Offset { expected: self.offset, found: header.base_offset });
        }
        match self.log.term_at(self.index) {
            Some(term) if term == header.id.term => Ok(()),
            term => Err(Damage::Term { previous: term.unwrap_or_default(), found: header.id.term }),
        }
    }
}
