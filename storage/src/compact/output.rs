//! A segment being made: frames as they stand, batches written anew, gaps.

use super::{Made, Piece, Replaced, TempFiles};
use crate::disk::{Disk, DiskFile};
use crate::index::{SparseIndex, batch_time_max};
use crate::recover::Frame;
use crate::segment::{COMPACTED_HEADER_BYTES, CompactedRange, Dirty, Segment, SegmentHeader};
use bytes::Bytes;
use raftline_proto::entry::EntryHeader;
use raftline_proto::entry::gap::Gap;
use raftline_proto::ids::{Index, Offset, Position};
use raftline_proto::time::Timestamp;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file under way. Frames are gathered and written a mebibyte at a time.
pub(super) struct Output<D: Disk> {
    file: Arc<D::File>,
    path: PathBuf,
    /// Of the first piece, with what it will cover filled in at the end.
    header: SegmentHeader,
    range: CompactedRange,
    /// The dropped entries that come next in the file.
    gap: Option<Gap>,
    buffer: Vec<u8>,
    /// Where the buffer's bytes belong.
    buffer_at: u64,
    index: SparseIndex,
    dirty: Dirty,
    replaced: Vec<Replaced>,
}

const BUFFER_BYTES: usize = 1 << 20;

impl<D: Disk> Output<D> {
    /// A file that begins with what is left of `first`.
    pub(super) fn new(
        files: &TempFiles<D>,
        first: &Piece,
        round: u32,
        clean: (Index, Offset),
    ) -> Result<Self, (PathBuf, io::Error)> {
        let path = files.path(first.header.sequence, round);
        let file = files.create(&path).map_err(|error| (path.clone(), error))?;
        let range = CompactedRange {
            last_sequence: first.header.last_sequence(),
            up_to: first.header.base_index(),
            next_offset: first.header.base_offset,
            end_position: Position::ZERO,
            end: 0,
            clean_through: clean.0,
            tombstones_before: clean.1,
        };
        Ok(Self {
            file,
            path,
            header: SegmentHeader { compacted: Some(range), ..first.header },
            range,
            gap: None,
            buffer: Vec::new(),
            buffer_at: COMPACTED_HEADER_BYTES,
            index: SparseIndex::default(),
            dirty: Dirty { at: COMPACTED_HEADER_BYTES, time: None },
            replaced: Vec::new(),
        })
    }

    /// Where it is made.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// With the piece that comes now the log will be compacted through another point.
    pub(super) fn set_clean(&mut self, through: Index, tombstones_before: Offset) {
        self.range.clean_through = through;
        self.range.tombstones_before = tombstones_before;
        self.header.compacted = Some(self.range);
        self.dirty = Dirty { at: self.bytes(), time: None };
    }

    /// How long the file is so far.
    pub(super) fn bytes(&self) -> u64 {
        self.buffer_at + self.buffer.len() as u64
    }

    /// The time of the first entry that has one.
    pub(super) fn time_first(&self) -> Option<Timestamp> {
        self.index.time_first()
    }

    /// Adds a frame as it is.
    pub(super) fn keep(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let time_max = batch_time_max(frame.header.kind, [frame.payload(), &[]]);
        self.push(&frame.header, frame.bytes, &[], time_max)
    }

    /// Adds an entry with another batch.
    pub(super) fn shrink(&mut self, header: &EntryHeader, batch: &Bytes) -> io::Result<()> {
        let payload_bytes = u32::try_from(batch.len()).map_err(io::Error::other)?;
        let header = EntryHeader { payload_bytes, ..*header };
        let time_max = batch_time_max(header.kind, [batch, &[]]);
        self.push(&header, &header.encode(&[batch]), batch, time_max)
    }

    /// Drops the entries of a frame.
    pub(super) fn drop_entries(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        match &frame.gap {
            Some(gap) => gap.entries(gap.first().index).try_for_each(|header| self.drop_entry(&header)),
            None => self.drop_entry(&frame.header),
        }
    }

    fn drop_entry(&mut self, header: &EntryHeader) -> io::Result<()> {
        if self.gap.as_mut().is_some_and(|gap| gap.take(header)) {
            return Ok(());
        }
        self.write_gap()?;
        self.gap = Some(Gap::of(header));
        Ok(())
    }

    fn write_gap(&mut self) -> io::Result<()> {
        let Some(gap) = self.gap.take() else { return Ok(()) };
        let (header, bytes) = gap.frame();
        self.push(&header, &bytes, &[], None)
    }

    fn push(
        &mut self,
        header: &EntryHeader,
        bytes: &[u8],
        more: &[u8],
        time_max: Option<Timestamp>,
    ) -> io::Result<()> {
        self.write_gap()?;
        self.index.note(header, self.bytes(), time_max);
        self.buffer.extend_from_slice(bytes);
        self.buffer.extend_from_slice(more);
        self.dirty.note(&self.header, header.id.index, self.bytes(), time_max);
        if self.buffer.len() >= BUFFER_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_at(&[IoSlice::new(&self.buffer)], self.buffer_at)?;
        self.buffer_at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// A piece has come to its end.
    pub(super) fn end_piece(&mut self, piece: &Piece) {
        self.replaced.extend_from_slice(&piece.replaced);
        self.range.last_sequence = self.range.last_sequence.max(piece.header.last_sequence());
        self.range.up_to = piece.up_to;
        self.range.next_offset = piece.next_offset;
        self.range.end_position = piece.end_position;
    }

    /// Writes what is left, the header, and syncs.
    pub(super) fn finish(mut self) -> Result<(Made, PathBuf), (PathBuf, io::Error)> {
        let header = match self.finish_file() {
            Ok(header) => header,
            Err(error) => return Err((self.path, error)),
        };
        let segment = Segment {
            header,
            up_to: self.range.up_to,
            end: self.range.end,
            next_offset: self.range.next_offset,
            written: self.range.end,
            allocated: self.range.end,
            index: self.index,
            dirty: self.dirty,
        };
        Ok((Made { segment, replaced: self.replaced }, self.path))
    }

    fn finish_file(&mut self) -> io::Result<SegmentHeader> {
        self.write_gap()?;
        self.write()?;
        self.range.end = self.buffer_at;
        let header = SegmentHeader { compacted: Some(self.range), ..self.header };
        self.file.write_at(&[IoSlice::new(&header.encode())], 0)?;
        self.file.sync_data()?;
        Ok(header)
    }
}
