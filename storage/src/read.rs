//! Reading: entries by index for peers, batches by offset for consumers, offsets by time.
//!
//! Payload checksums are not verified again here: recovery verified what was found, a follower verifies the frames it
//! receives, and a consumer the batches. But each entry header on the way is checked against its place (group,
//! index, offset, term), so that a stale or misdirected block is never served as something else.

use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, ReadError};
use crate::index::{Point, batch_time_max};
use crate::log::Log;
use crate::segment::{SEGMENT_HEADER_BYTES, Segment};
use bytes::Bytes;
use raftline_proto::batch::BatchView;
use raftline_proto::entry::{EntryHeader, EntryKind, HEADER_BYTES};
use raftline_proto::ids::{Index, Offset, Term};
use raftline_proto::time::Timestamp;

/// Entries as they stand in the log.
#[derive(Clone, Debug, Default)]
pub struct EntriesRead {
    /// Whole entries back to back, one slice a segment.
    pub parts: Vec<Bytes>,
    /// One past the last entry read.
    pub up_to: Index,
    /// The size of all parts.
    pub bytes: u64,
}

/// Record batches, each the payload of one data entry.
#[derive(Clone, Debug, Default)]
pub struct BatchesRead {
    /// The batches, whole, in offset order.
    pub batches: Vec<Bytes>,
    /// Their size.
    pub bytes: u64,
}

impl<D: Disk> Log<D> {
    /// Reads the entries `[from, up_to)`, as many whole ones as fit into `bytes_max`, but at least one. Nothing, if
    /// `from` is past the end.
    ///
    /// # Errors
    /// [`ReadError::Trimmed`] if the log starts later.
    pub fn read_entries(&self, from: Index, up_to: Index, bytes_max: u64) -> Result<EntriesRead, ReadError> {
        if from <= self.start.0.index {
            return Err(self.trimmed());
        }
        let mut read = EntriesRead { parts: Vec::new(), up_to: from, bytes: 0 };
        let mut walk = self.walk_from_index(from);
        // The part under way: its segment and its range in the file.
        let mut part: Option<(usize, u64, u64)> = None;
        while let Some(step) = walk.next()? {
            let bytes = step.header.entry_bytes();
            if step.header.id.index >= up_to || (read.bytes > 0 && read.bytes + bytes > bytes_max) {
                break;
            }
            match &mut part {
                Some((nth, _, end)) if *nth == step.nth => *end += bytes,
                _ => {
                    self.push_part(&mut read, part)?;
                    part = Some((step.nth, step.at, step.at + bytes));
                }
            }
            read.bytes += bytes;
            read.up_to = step.header.id.index.next();
        }
        self.push_part(&mut read, part)?;
        Ok(read)
    }

    fn push_part(&self, read: &mut EntriesRead, part: Option<(usize, u64, u64)>) -> Result<(), ReadError> {
        if let Some((nth, from, up_to)) = part {
            read.parts.push(self.slice(&self.segments[nth], from, up_to)?);
        }
        Ok(())
    }

    /// Reads batches from the one that holds `from` on, as long as they end at or below `up_to` and fit into
    /// `bytes_max`, but at least one. Nothing, if there is none.
    ///
    /// # Errors
    /// [`ReadError::Trimmed`] if the log starts later.
    pub fn read_batches(
        &self,
        from: Offset,
        up_to: Offset,
        bytes_max: u64,
    ) -> Result<BatchesRead, ReadError> {
        if from < self.start.1 {
            return Err(self.trimmed());
        }
        let mut read = BatchesRead::default();
        let Some(nth) = self.segment_of_offset(from) else { return Ok(read) };
        let mut walk = self.walk_from(nth, self.segments[nth].index.by_offset(from));
        let mut steps: Vec<Step> = Vec::new();
        while let Some(step) = walk.next()? {
            let header = step.header;
            if header.kind != EntryKind::Data || header.next_offset() <= from {
                continue;
            }
            let bytes = u64::from(header.payload_bytes);
            if header.next_offset() > up_to || (read.bytes > 0 && read.bytes + bytes > bytes_max) {
                break;
            }
            read.bytes += bytes;
            steps.push(step);
        }
        for steps in steps.chunk_by(|a, b| a.nth == b.nth) {
            self.push_payloads(steps, &mut read.batches)?;
        }
        Ok(read)
    }

    /// The payloads of entries of one segment, as parts of one slice.
    fn push_payloads(&self, steps: &[Step], into: &mut Vec<Bytes>) -> Result<(), ReadError> {
        let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Ok(()) };
        let whole = self.slice(&self.segments[first.nth], first.at, last.end())?;
        for step in steps {
            let part = |at: u64| usize::try_from(at - first.at).unwrap_or(usize::MAX);
            into.push(whole.slice(part(step.payload_at())..part(step.end())));
        }
        Ok(())
    }

    /// The first record with a timestamp of `timestamp` or later, among the batches that end at or below `up_to`: its
    /// offset and its timestamp.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn offset_at(
        &self,
        timestamp: Timestamp,
        up_to: Offset,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        for (nth, segment) in self.segments.iter().enumerate() {
            if segment.index.time_max() < Some(timestamp) {
                continue;
            }
            let mut walk = self.walk_from(nth, segment.index.by_time(timestamp));
            while let Some(step) = walk.next()? {
                if step.header.next_offset() > up_to {
                    return Ok(None);
                }
                if step.nth != nth {
                    break;
                }
                let payload = self.payload(&step)?;
                if batch_time_max(step.header.kind, [&payload, &[]]) >= Some(timestamp) {
                    return Ok(Some(first_record_at(&step.header, &payload, timestamp)));
                }
            }
        }
        Ok(None)
    }

    /// The first record with the greatest timestamp, among the batches that end at or below `up_to`: its offset and
    /// its timestamp.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn newest(&self, up_to: Offset) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let mut newest = None;
        for (nth, segment) in self.segments.iter().enumerate() {
            if segment.next_offset <= up_to {
                newest = newest.max(segment.index.time_max());
                continue;
            }
            let mut walk = self.walk_from(nth, None);
            while let Some(step) = walk.next()?
                && step.nth == nth
                && step.header.next_offset() <= up_to
            {
                newest = newest.max(batch_time_max(step.header.kind, [&self.payload(&step)?, &[]]));
            }
            break;
        }
        newest.map_or(Ok(None), |newest| self.offset_at(newest, up_to))
    }

    /// The last term at or below `term` that wrote anything here, and the offset after its last record below `up_to`:
    /// where a reader's log that ends in that term parts from this one. `None` if the log begins in a later term.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn end_of_term(&self, term: Term, up_to: Offset) -> Result<Option<(Term, Offset)>, ReadError> {
        let count = self.terms.partition_point(|start| start.term <= term);
        let Some(found) = count.checked_sub(1).map(|nth| self.terms[nth].term) else { return Ok(None) };
        let end = match self.terms.get(count) {
            None => self.next_offset(),
            Some(next) => match self.walk_from_index(next.index).next()? {
                Some(step) => step.header.base_offset,
                None => self.next_offset(),
            },
        };
        Ok(Some((found, end.min(up_to))))
    }

    /// All entries from `from` on, or from the first if that is later: header and payload. Ends after an error.
    pub fn replay(&self, from: Index) -> impl Iterator<Item = Result<(EntryHeader, Bytes), ReadError>> + '_ {
        let mut walk = Some(self.walk_from_index(from.max(self.start.0.index.next())));
        std::iter::from_fn(move || {
            let next = walk.as_mut()?.next().and_then(|step| match step {
                Some(step) => Ok(Some((step.header, self.payload(&step)?))),
                None => Ok(None),
            });
            if !matches!(next, Ok(Some(_))) {
                walk = None;
            }
            next.transpose()
        })
    }

    fn trimmed(&self) -> ReadError {
        ReadError::Trimmed { previous: self.start.0, offset: self.start.1 }
    }

    /// The last segment that begins at or before an offset. It may hold no records; then the next entries do.
    fn segment_of_offset(&self, offset: Offset) -> Option<usize> {
        let first = self.segments.first()?;
        let count = self.segments.partition_point(|segment| segment.header.base_offset <= offset);
        debug_assert!(first.header.base_offset <= offset, "the caller has checked against the start");
        count.checked_sub(1)
    }

    fn payload(&self, step: &Step) -> Result<Bytes, ReadError> {
        self.slice(&self.segments[step.nth], step.payload_at(), step.end())
    }

    fn slice(&self, segment: &Segment, from: u64, up_to: u64) -> Result<Bytes, ReadError> {
        assert!(up_to <= segment.end, "bytes {from}..{up_to} of a segment that ends at {}", segment.end);
        let sequence = segment.header.sequence;
        self.files
            .get(sequence)
            .and_then(|file| file.slice(from, up_to))
            .map_err(|source| ReadError::Io { file: self.files.path(sequence), source })
    }

    fn walk_from_index(&self, from: Index) -> Walk<'_, D> {
        match self.segment_of(from) {
            Some(nth) => {
                let mut walk = self.walk_from(nth, self.segments[nth].index.by_index(from));
                walk.skip_below = from;
                walk
            }
            None => self.walk_from(self.segments.len(), None),
        }
    }

    /// Walks entry headers from a point of segment `nth`, or from its beginning.
    fn walk_from(&self, nth: usize, point: Option<Point>) -> Walk<'_, D> {
        let mut walk = Walk {
            log: self,
            nth,
            at: SEGMENT_HEADER_BYTES,
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
}

/// Goes through entry headers in order, checking each against its place.
struct Walk<'a, D: Disk> {
    log: &'a Log<D>,
    /// The segment, and the place in its file, of the next entry.
    nth: usize,
    at: u64,
    /// What the next entry has to be.
    index: Index,
    offset: Offset,
    /// Entries below are walked over in silence.
    skip_below: Index,
    window: Window,
}

/// A piece of a segment that headers are read from.
struct Window {
    bytes: Bytes,
    nth: usize,
    at: u64,
}

/// One entry on the way.
struct Step {
    nth: usize,
    at: u64,
    header: EntryHeader,
}

impl Step {
    fn payload_at(&self) -> u64 {
        self.at + HEADER_BYTES as u64
    }

    fn end(&self) -> u64 {
        self.at + self.header.entry_bytes()
    }
}

/// How much is looked at at once. Small, because the simulated disk copies what it slices.
const WINDOW_BYTES: u64 = 16 << 10;

impl<D: Disk> Walk<'_, D> {
    fn next(&mut self) -> Result<Option<Step>, ReadError> {
        loop {
            let Some(segment) = self.log.segments.get(self.nth) else { return Ok(None) };
            if self.at >= segment.end {
                self.nth += 1;
                self.enter_segment();
                continue;
            }
            let header = self.read_header(segment)?;
            let step = Step { nth: self.nth, at: self.at, header };
            self.at += header.entry_bytes();
            self.index = header.id.index.next();
            self.offset = header.next_offset();
            if header.id.index >= self.skip_below {
                return Ok(Some(step));
            }
        }
    }

    fn enter_segment(&mut self) {
        self.at = SEGMENT_HEADER_BYTES;
        if let Some(segment) = self.log.segments.get(self.nth) {
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
            .map_err(|reason| ReadError::Corrupt {
                file: self.log.files.path(segment.header.sequence),
                at,
                position: segment.position(at),
                reason,
            })
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

/// The first record of a batch with a timestamp of `timestamp` or later. Where the records cannot be read, the first
/// one: a little early is no harm.
fn first_record_at(header: &EntryHeader, batch: &Bytes, timestamp: Timestamp) -> (Offset, Timestamp) {
    let first = (header.base_offset, timestamp);
    let Ok(view) = BatchView::open(batch) else { return first };
    let found = view.records().map_while(Result::ok).find(|record| record.timestamp >= timestamp);
    found.map_or(first, |record| (record.offset, record.timestamp))
}
