//! Walking through the frames of a log in order, checking each header against its place, and the bytes of those that
//! are wanted against their checksum.

use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, HeaderError, ReadError};
use crate::index::Point;
use crate::log::Log;
use crate::recover::gap_in;
use crate::segment::{Segment, SegmentHeader};
use bytes::Bytes;
use raftline_proto::entry::gap::Gap;
use raftline_proto::entry::{EntryError, EntryHeader, EntryKind, HEADER_BYTES};
use raftline_proto::ids::{Index, Offset};
use std::io;

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
            ahead: WINDOW_BYTES,
            window: Window { bytes: Bytes::new(), nth, at: 0 },
        };
        walk.enter_segment();
        if let Some(point) = point {
            (walk.at, walk.index, walk.offset) = (point.at, point.index, point.offset);
        }
        walk
    }

    /// The bytes `[from, up_to)` of a segment's file.
    fn bytes_of(&self, segment: &Segment, from: u64, up_to: u64) -> Result<Bytes, ReadError> {
        assert!(up_to <= segment.end, "bytes {from}..{up_to} of a segment that ends at {}", segment.end);
        let file = self.files.path(segment.header.sequence);
        match self.files.get(segment.header.sequence) {
            Ok(open) => open.read(from, up_to),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Err(source),
            Err(source) => return Err(ReadError::Io { file, source }),
        }
        .map_err(|source| ReadError::Unreadable {
            file,
            at: from,
            position: segment.position(from),
            source,
        })
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
    /// How much is read at once.
    ahead: u64,
    window: Window,
}

/// A piece of a segment that was read.
#[derive(Clone)]
pub(crate) struct Window {
    bytes: Bytes,
    nth: usize,
    at: u64,
}

impl Window {
    fn holds(&self, nth: usize, from: u64, up_to: u64) -> bool {
        self.nth == nth && from >= self.at && up_to <= self.at + self.bytes.len() as u64
    }

    /// Whether it is the very same bytes in memory.
    pub(crate) fn is(&self, other: &Self) -> bool {
        (self.nth, self.at, self.bytes.as_ptr()) == (other.nth, other.at, other.bytes.as_ptr())
    }

    /// The bytes `[from, up_to)` of the file, which it holds.
    pub(crate) fn slice(&self, from: u64, up_to: u64) -> Bytes {
        self.bytes.slice(self.place(from)..self.place(up_to))
    }

    /// The same, to look at.
    fn view(&self, from: u64, up_to: u64) -> &[u8] {
        &self.bytes[self.place(from)..self.place(up_to)]
    }

    fn place(&self, at: u64) -> usize {
        usize::try_from(at - self.at).unwrap_or(usize::MAX)
    }
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

/// How much is read at once by who looks for one entry: as far as the index leads before its place.
const WINDOW_BYTES: u64 = 16 << 10;

/// How much is read at once at most.
const WINDOW_BYTES_MAX: u64 = 1 << 20;

impl<D: Disk> Walk<'_, D> {
    /// For who wants the next `bytes`: reads so much at once, within bounds.
    pub(crate) fn ahead(&mut self, bytes: u64) {
        self.ahead = bytes.clamp(WINDOW_BYTES, WINDOW_BYTES_MAX);
    }

    /// The window with all bytes of a frame that [`Walk::next`] gave, once their checksum is found to be right.
    pub(crate) fn frame(&mut self, step: &Step) -> Result<&Window, ReadError> {
        let Some(segment) = self.log.segments.get(step.nth) else { return Ok(&self.window) };
        self.look(segment, step.nth, step.at, step.end())?;
        match EntryHeader::verify(self.window.view(step.at, step.end())) {
            Ok(_) => Ok(&self.window),
            Err(error) => Err(self.corrupt(segment, step.at, error.into())),
        }
    }

    /// The payload of a frame, once the frame's checksum is found to be right.
    pub(crate) fn payload(&mut self, step: &Step) -> Result<Bytes, ReadError> {
        self.frame(step).map(|window| window.slice(step.payload_at(), step.end()))
    }

    /// Reads the header of the segment that the walk is in, and compares it with what is known.
    pub(crate) fn segment_header(&self) -> Result<(), ReadError> {
        let Some(segment) = self.log.segments.get(self.nth) else { return Ok(()) };
        let head = self.log.bytes_of(segment, 0, segment.header.entries_at())?;
        match SegmentHeader::decode(&head) {
            Ok(header) if header == segment.header => Ok(()),
            Ok(header) => {
                let (expected, found) = (segment.header.sequence, header.sequence);
                Err(self.corrupt(segment, 0, HeaderError::Sequence { expected, found }.into()))
            }
            Err(error) => Err(self.corrupt(segment, 0, error.into())),
        }
    }

    /// Makes the window one that holds these bytes.
    fn look(&mut self, segment: &Segment, nth: usize, from: u64, up_to: u64) -> Result<(), ReadError> {
        if !self.window.holds(nth, from, up_to) {
            let end = segment.end.min(up_to.max(from + self.ahead));
            self.window = Window { bytes: self.log.bytes_of(segment, from, end)?, nth, at: from };
        }
        Ok(())
    }

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
        if end > segment.end {
            let error = EntryError::Truncated { needed: HEADER_BYTES as u64, available: segment.end - at };
            return Err(self.corrupt(segment, at, error.into()));
        }
        self.look(segment, self.nth, at, end)?;
        EntryHeader::decode(self.window.view(at, end))
            .map_err(Damage::from)
            .and_then(|header| self.check(segment, &header).map(|()| header))
            .map_err(|reason| self.corrupt(segment, at, reason))
    }

    fn read_gap(&mut self, segment: &Segment, header: &EntryHeader) -> Result<Option<Gap>, ReadError> {
        if header.kind != EntryKind::Gap {
            return Ok(None);
        }
        let at = self.at;
        let payload = self.payload(&Step { nth: self.nth, at, header: *header, gap: None })?;
        gap_in(header, &payload).map_err(|error| self.corrupt(segment, at, error.into()))
    }

    fn corrupt(&self, segment: &Segment, at: u64, reason: Damage) -> ReadError {
        ReadError::Corrupt {
            file: self.log.files.path(segment.header.sequence),
            at,
            position: segment.position(at),
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
