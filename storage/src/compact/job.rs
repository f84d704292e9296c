//! The slow work: survey, then one round for each share of the keys, in which every piece is rewritten or left.
//!
//! Memory: the table of keys (by its bound), the largest batch twice, packed and unpacked, a mebibyte to be written, and
//! 48 bytes for each 16 KiB of what is made.

use super::filter::{Fate, Filter};
use super::output::Output;
use super::survey::Survey;
use super::{Compacted, Compaction, CompactionRule, Made, Piece, TempFiles};
use crate::disk::Disk;
use crate::error::{CompactionError, Damage};
use crate::log::LogOptions;
use crate::recover::{Expected, Frame, Reader, next_entry};
use crate::room::is_too_late;
use crate::segment::SegmentHeader;
use raftline_proto::entry::gap::Gap;
use raftline_proto::ids::{Index, Offset};
use raftline_proto::time::Timestamp;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

impl<D: Disk> Compaction<D> {
    /// Reads, writes and syncs. The log goes on meanwhile.
    ///
    /// # Errors
    /// The job's files are gone then, and the log is as it was.
    pub fn run(self) -> Result<Compacted<D>, CompactionError> {
        let Self { files, options, rule, before, mut pieces, cancelled } = self;
        let reading = Reading { disk: &files.disk, cancelled: &cancelled };
        let survey = Survey::of(&reading, &pieces, &rule)?;
        let (mut round, mut share) = (0, Some(0));
        while let Some(first) = share {
            let keys = survey.keys(&reading, &pieces, &rule, before.0, first)?;
            share = keys.next_share();
            let filter = Filter { survey: &survey, keys: &keys, rule: &rule };
            let work = Round {
                reading: &reading,
                files: &files,
                options,
                rule: &rule,
                before,
                filter,
                number: round,
            };
            pieces = work.run(pieces)?;
            round += 1;
        }
        let pieces = pieces.into_iter().filter_map(Piece::into_made).collect();
        Ok(Compacted { files, pieces })
    }
}

/// Reads pieces frame by frame.
pub(super) struct Reading<'a, D: Disk> {
    disk: &'a D,
    cancelled: &'a AtomicBool,
}

impl<D: Disk> Reading<'_, D> {
    /// Shows each frame of a piece to `visit`, verified, until it has seen enough.
    pub(super) fn each(
        &self,
        piece: &Piece,
        mut visit: impl FnMut(&Frame<'_>) -> Result<ControlFlow<()>, CompactionError>,
    ) -> Result<(), CompactionError> {
        let failed = |source| CompactionError::Io { file: piece.file.clone(), source };
        let file = match self.disk.open(&piece.file) {
            // Retention has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(piece.changed()),
            file => file.map_err(failed)?,
        };
        let header = piece.header;
        let mut reader = Reader::new(&*file, piece.end);
        let head = reader.bytes(0, header.entries_at()).map_err(failed)?.unwrap_or(&[]);
        match SegmentHeader::decode(head) {
            Ok(found) if (SegmentHeader { start: header.start, ..found }) == header => {}
            Ok(_) => return Err(piece.changed()),
            Err(error) => return Err(piece.corrupt(0, error.into())),
        }
        let mut expected = Expected::after(header.group, header.previous, header.base_offset);
        let mut at = header.entries_at();
        while at < piece.end {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(CompactionError::Cancelled);
            }
            let frame = next_entry(&mut reader, at, &expected).map_err(failed)?;
            let frame = frame.map_err(|reason| piece.corrupt(at, reason))?;
            if visit(&frame)?.is_break() {
                return Ok(());
            }
            expected.advance(&frame);
            at += frame.header.entry_bytes();
        }
        if expected.index == piece.up_to && expected.offset == piece.next_offset {
            return Ok(());
        }
        Err(piece.corrupt(at, Damage::Index { expected: piece.up_to, found: expected.index }))
    }
}

/// One pass over all pieces, for one share of the keys.
struct Round<'a, D: Disk> {
    reading: &'a Reading<'a, D>,
    files: &'a TempFiles<D>,
    options: LogOptions,
    rule: &'a CompactionRule,
    before: (Index, Offset),
    filter: Filter<'a>,
    number: u32,
}

impl<D: Disk> Round<'_, D> {
    fn run(&self, pieces: Vec<Piece>) -> Result<Vec<Piece>, CompactionError> {
        let mut done = Vec::new();
        let mut output: Option<Output<D>> = None;
        let mut pieces = pieces.into_iter().peekable();
        while let Some(piece) = pieces.next() {
            let mut under_way = match output.take() {
                Some(under_way) if self.joins(under_way.bytes(), under_way.time_first(), &piece) => under_way,
                other => {
                    if let Some(full) = other {
                        done.push(finished(full)?);
                    }
                    if self.stays(&piece, pieces.peek())? {
                        done.push(piece);
                        continue;
                    }
                    Output::new(self.files, &piece, self.number, self.before).map_err(io_error)?
                }
            };
            self.rewrite(&piece, &mut under_way)?;
            if piece.made.is_some() {
                self.files.remove(&piece.file);
            }
            output = Some(under_way);
        }
        if let Some(last) = output {
            done.push(finished(last)?);
        }
        Ok(done)
    }

    /// Whether what is left of a piece may go behind `bytes` that are there: within the bounds of a segment, by the size
    /// that it has yet. Retention deletes whole segments, so their span of time is kept, too.
    fn joins(&self, bytes: u64, time_first: Option<Timestamp>, piece: &Piece) -> bool {
        bytes + piece.end <= self.options.segment_bytes
            && !is_too_late(time_first, piece.time_max, self.options.segment_ms)
    }

    /// Whether a piece is best left as it is: nothing of it goes, and it is of a good size.
    fn stays(&self, piece: &Piece, next: Option<&Piece>) -> Result<bool, CompactionError> {
        // The header of the last one says how far the log is compacted.
        if piece.holds(self.rule.through) && piece.made.is_none() {
            return Ok(false);
        }
        let is_small = piece.end <= self.options.segment_bytes / 2;
        if is_small && next.is_some_and(|next| self.joins(piece.end, piece.time_first, next)) {
            return Ok(false);
        }
        let mut stays = true;
        let mut before: Option<Gap> = None;
        self.reading.each(piece, |frame| {
            match (self.filter.judge(frame), &frame.gap) {
                (Fate::Stays, _) => before = None,
                // A gap of one entry came from a leader. It takes as much room as a long one.
                (Fate::Goes, Some(gap)) => {
                    let is_one = frame.header.payload_bytes == 0;
                    stays = !(is_one && before.as_mut().is_some_and(|before| before.take(&frame.header)));
                    before = Some(gap.clone());
                }
                (Fate::Goes | Fate::Shrinks(_), _) => stays = false,
            }
            Ok(if stays { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(stays)
    }

    fn rewrite(&self, piece: &Piece, output: &mut Output<D>) -> Result<(), CompactionError> {
        if piece.holds(self.rule.through) {
            output.set_clean(self.rule.through, self.rule.tombstones_before);
        }
        self.reading.each(piece, |frame| {
            let written = match self.filter.judge(frame) {
                Fate::Stays => output.keep(frame),
                Fate::Shrinks(batch) => output.shrink(&frame.header, &batch),
                Fate::Goes => output.drop_entries(frame),
            };
            written.map_err(|error| io_error((output.path().to_path_buf(), error)))?;
            Ok(ControlFlow::Continue(()))
        })?;
        output.end_piece(piece);
        Ok(())
    }
}

fn finished<D: Disk>(output: Output<D>) -> Result<Piece, CompactionError> {
    let (made, path) = output.finish().map_err(io_error)?;
    let Made { segment, replaced } = made;
    let piece = Piece::of(&segment, path);
    Ok(Piece { replaced, made: Some((segment.index, segment.dirty)), ..piece })
}

fn io_error((file, source): (PathBuf, io::Error)) -> CompactionError {
    CompactionError::Io { file, source }
}
