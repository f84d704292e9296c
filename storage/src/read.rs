//! Reading: entries by index for peers, batches by offset for consumers, offsets by time.
//!
//! What is given away is read from the disk and its checksum compared, each time: a bit may flip where nothing else would
//! ever see it. Each entry header on the way is checked against its place (group, index, offset, term), so that a stale or
//! misdirected block is never served as something else. What is sound before the damage is given, and the damage with it.
//!
//! Where compaction dropped entries, a reader by index sees one of kind gap for each, and a reader by offset goes on with
//! the next batch.

use crate::disk::Disk;
use crate::error::ReadError;
use crate::index::batch_time_max;
use crate::log::Log;
use crate::walk::{Walk, Window};
use bytes::Bytes;
use raftline_proto::batch::BatchView;
use raftline_proto::entry::gap::Gap;
use raftline_proto::entry::{EntryHeader, EntryKind};
use raftline_proto::ids::{Index, Offset, Term};
use raftline_proto::time::Timestamp;

/// Entries as they stand in the log.
#[derive(Debug, Default)]
pub struct EntriesRead {
    /// Whole entries back to back: pieces of segments, and what was made for gaps.
    pub parts: Vec<Bytes>,
    /// One past the last entry read.
    pub up_to: Index,
    /// The size of all parts.
    pub bytes: u64,
    /// Why there is no more, if what follows cannot be read.
    pub failed: Option<ReadError>,
}

/// Record batches, each the payload of one data entry.
#[derive(Debug, Default)]
pub struct BatchesRead {
    /// The batches, whole, in offset order. Of compacted ones records may be missing, even all.
    pub batches: Vec<Bytes>,
    /// Their size.
    pub bytes: u64,
    /// Why there is no more, if what follows cannot be read.
    pub failed: Option<ReadError>,
}

/// Entries of one window that stand back to back.
struct Part {
    window: Window,
    from: u64,
    up_to: u64,
}

impl<D: Disk> Log<D> {
    /// Reads the entries `[from, up_to)`, as many whole ones as fit into `bytes_max`, but at least one. Nothing, if
    /// `from` is past the end.
    ///
    /// # Errors
    /// [`ReadError::Trimmed`] if the log starts later; another one if not even the first can be read.
    pub fn read_entries(&self, from: Index, up_to: Index, bytes_max: u64) -> Result<EntriesRead, ReadError> {
        if from <= self.start.0.index {
            return Err(self.trimmed());
        }
        let mut read = EntriesRead { up_to: from, ..EntriesRead::default() };
        match self.read_entries_into(&mut read, up_to, bytes_max) {
            Err(error) if read.bytes == 0 => Err(error),
            done => {
                read.failed = done.err();
                Ok(read)
            }
        }
    }

    fn read_entries_into(
        &self,
        read: &mut EntriesRead,
        up_to: Index,
        bytes_max: u64,
    ) -> Result<(), ReadError> {
        let mut walk = self.walk_from_index(read.up_to);
        walk.ahead(bytes_max);
        let mut part = None;
        let outcome = loop {
            let step = match walk.next() {
                Ok(Some(step)) => step,
                end => break end.map(drop),
            };
            if let Some(gap) = &step.gap {
                push_part(read, part.take());
                push_gap(read, gap, up_to, bytes_max);
                if read.up_to < gap.up_to() {
                    break Ok(());
                }
                continue;
            }
            let bytes = step.header.entry_bytes();
            if step.header.id.index >= up_to || (read.bytes > 0 && read.bytes + bytes > bytes_max) {
                break Ok(());
            }
            let window = match walk.frame(&step) {
                Ok(window) => window,
                Err(error) => break Err(error),
            };
            match &mut part {
                Some(Part { window: held, up_to: end, .. }) if held.is(window) && *end == step.at => {
                    *end = step.end();
                }
                _ => {
                    let next = Part { window: window.clone(), from: step.at, up_to: step.end() };
                    push_part(read, part.replace(next));
                }
            }
            read.bytes += bytes;
            read.up_to = step.header.id.index.next();
        };
        push_part(read, part);
        outcome
    }

    /// Reads batches from the one that holds `from` on, as long as they end at or below `up_to` and fit into
    /// `bytes_max`, but at least one. Nothing, if there is none.
    ///
    /// # Errors
    /// [`ReadError::Trimmed`] if the log starts later; another one if not even the first can be read.
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
        match self.read_batches_into(&mut read, from, up_to, bytes_max) {
            Err(error) if read.batches.is_empty() => Err(error),
            done => {
                read.failed = done.err();
                Ok(read)
            }
        }
    }

    fn read_batches_into(
        &self,
        read: &mut BatchesRead,
        from: Offset,
        up_to: Offset,
        bytes_max: u64,
    ) -> Result<(), ReadError> {
        let Some(nth) = self.segment_of_offset(from) else { return Ok(()) };
        let mut walk = self.walk_from(nth, self.segments[nth].index.by_offset(from));
        walk.ahead(bytes_max);
        while let Some(step) = walk.next()? {
            let header = step.header;
            if header.kind != EntryKind::Data || header.next_offset() <= from {
                continue;
            }
            let bytes = u64::from(header.payload_bytes);
            if header.next_offset() > up_to || (read.bytes > 0 && read.bytes + bytes > bytes_max) {
                break;
            }
            read.batches.push(walk.payload(&step)?);
            read.bytes += bytes;
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
                let payload = walk.payload(&step)?;
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
                newest = newest.max(batch_time_max(step.header.kind, [&walk.payload(&step)?, &[]]));
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
        let first = from.max(self.start.0.index.next());
        let mut replay = Replay { walk: self.walk_from_index(first), gap: None, from: first };
        let mut ended = false;
        std::iter::from_fn(move || {
            let next = if ended { None } else { replay.next().transpose() };
            ended = !matches!(next, Some(Ok(_)));
            next
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
}

/// Entry by entry through the log.
struct Replay<'a, D: Disk> {
    walk: Walk<'a, D>,
    /// The gap that reading is in, with entries from `from` on left, or none.
    gap: Option<Gap>,
    from: Index,
}

impl<D: Disk> Replay<'_, D> {
    fn next(&mut self) -> Result<Option<(EntryHeader, Bytes)>, ReadError> {
        loop {
            if let Some(header) = self.gap.as_ref().and_then(|gap| gap.entries(self.from).next()) {
                self.from = header.id.index.next();
                return Ok(Some((header, Bytes::new())));
            }
            let Some(step) = self.walk.next()? else { return Ok(None) };
            if step.gap.is_none() {
                self.gap = None;
                return Ok(Some((step.header, self.walk.payload(&step)?)));
            }
            self.gap = step.gap;
        }
    }
}

fn push_part(read: &mut EntriesRead, part: Option<Part>) {
    if let Some(Part { window, from, up_to }) = part {
        read.parts.push(window.slice(from, up_to));
    }
}

/// Makes the entries of a gap from where reading stands, as far as they are asked for and fit.
fn push_gap(read: &mut EntriesRead, gap: &Gap, up_to: Index, bytes_max: u64) {
    let mut made = Vec::new();
    for header in gap.entries(read.up_to) {
        let bytes = header.entry_bytes();
        if header.id.index >= up_to || (read.bytes > 0 && read.bytes + bytes > bytes_max) {
            break;
        }
        made.extend_from_slice(&header.encode(&[]));
        read.bytes += bytes;
        read.up_to = header.id.index.next();
    }
    if !made.is_empty() {
        read.parts.push(made.into());
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
