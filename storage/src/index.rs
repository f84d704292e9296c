//! The sparse index of one segment: a point each 16 KiB, found by entry index, record offset or time.
//!
//! It lives in memory and is made anew by the scan at start. A search gives a point at or before the place; the
//! caller walks the entry headers from there.

use raftline_proto::entry::{EntryHeader, EntryKind};
use raftline_proto::ids::{Index, Offset};
use raftline_proto::time::Timestamp;

/// One entry that the search can land on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// Its index.
    pub(crate) index: Index,
    /// Its base offset.
    pub(crate) offset: Offset,
    /// Its place in the file.
    pub(crate) at: u64,
    /// The greatest timestamp in the segment from its start to the last entry before the next point. Record times may
    /// jump back; their running maximum does not, so that it can be searched.
    time_max: Option<Timestamp>,
}

/// The points of one segment, ascending in every field.
#[derive(Clone, Debug, Default)]
pub(crate) struct SparseIndex {
    points: Vec<Point>,
    /// The first entry that has a time, and that.
    time_first: Option<(Index, Timestamp)>,
}

/// Walking this much of headers costs a few microseconds at most; a point costs 40 bytes.
pub(crate) const POINT_EVERY_BYTES: u64 = 16 << 10;

impl SparseIndex {
    /// Takes note of the next entry, at `at` in the file.
    pub(crate) fn note(&mut self, header: &EntryHeader, at: u64, time_max: Option<Timestamp>) {
        let running = self.time_max();
        if self.time_first.is_none() {
            self.time_first = time_max.map(|time| (header.id.index, time));
        }
        if self.points.last().is_none_or(|last| at - last.at >= POINT_EVERY_BYTES) {
            let offset = header.base_offset;
            self.points.push(Point { index: header.id.index, offset, at, time_max: running });
        }
        if let Some(last) = self.points.last_mut() {
            last.time_max = running.max(time_max);
        }
    }

    /// The greatest timestamp in the segment.
    pub(crate) fn time_max(&self) -> Option<Timestamp> {
        self.points.last().and_then(|last| last.time_max)
    }

    /// The timestamp of the first entry that has one: the greatest of its batch.
    pub(crate) fn time_first(&self) -> Option<Timestamp> {
        self.time_first.map(|(_, time)| time)
    }

    /// The last point at or before the entry `index`.
    pub(crate) fn by_index(&self, index: Index) -> Option<Point> {
        self.last_where(|point| point.index <= index)
    }

    /// The last point at or before the record `offset`.
    pub(crate) fn by_offset(&self, offset: Offset) -> Option<Point> {
        self.last_where(|point| point.offset <= offset)
    }

    /// The last point at or before the byte `at` of the file.
    pub(crate) fn by_place(&self, at: u64) -> Option<Point> {
        self.last_where(|point| point.at <= at)
    }

    /// The point from which the first entry with a timestamp of `time` or later is found by walking.
    pub(crate) fn by_time(&self, time: Timestamp) -> Option<Point> {
        let at = self.points.partition_point(|point| point.time_max < Some(time));
        self.points.get(at).copied()
    }

    /// Forgets the last point at or before the entry `from` and all after it. The caller walks from the point
    /// returned and notes again the entries that stay.
    pub(crate) fn cut(&mut self, from: Index) -> Option<Point> {
        let keep = self.points.partition_point(|point| point.index <= from).saturating_sub(1);
        let point = self.points.get(keep).copied();
        self.points.truncate(keep);
        self.time_first =
            self.time_first.filter(|(index, _)| point.as_ref().is_some_and(|point| *index < point.index));
        point
    }

    fn last_where(&self, holds: impl Fn(&Point) -> bool) -> Option<Point> {
        let count = self.points.partition_point(holds);
        count.checked_sub(1).map(|last| self.points[last])
    }
}

/// The greatest timestamp of a data entry, read from its record batch: `max_timestamp` stands at bytes 35..43 of a
/// Kafka record batch, big-endian. The payload comes in two parts. A batch that compaction left without records has
/// none.
pub(crate) fn batch_time_max(kind: EntryKind, payload: [&[u8]; 2]) -> Option<Timestamp> {
    if kind != EntryKind::Data || payload[0].len() + payload[1].len() < BATCH_HEADER_BYTES {
        return None;
    }
    let byte = |at: usize| payload[0].get(at).copied().unwrap_or_else(|| payload[1][at - payload[0].len()]);
    if (RECORD_COUNT_AT..BATCH_HEADER_BYTES).all(|at| byte(at) == 0) {
        return None;
    }
    Some(Timestamp(i64::from_be_bytes(std::array::from_fn(|nth| byte(MAX_TIMESTAMP_AT + nth)))))
}

const MAX_TIMESTAMP_AT: usize = 35;
const RECORD_COUNT_AT: usize = 57;
const BATCH_HEADER_BYTES: usize = 61;

#[cfg(test)]
mod tests {
    use super::*;
    use raftline_proto::ids::{EntryId, GroupId, Term};

    fn header(index: u64, offset: u64) -> EntryHeader {
        EntryHeader {
            group: GroupId(1),
            id: EntryId::new(Term(1), Index(index)),
            kind: EntryKind::Data,
            base_offset: Offset(offset),
            record_count: 10,
            payload_bytes: 0,
        }
    }

    fn index_of(times: &[i64]) -> SparseIndex {
        let mut index = SparseIndex::default();
        for (nth, time) in (0..).zip(times) {
            let at = 64 + nth * POINT_EVERY_BYTES / 2;
            index.note(&header(nth + 1, nth * 10), at, Some(Timestamp(*time)));
        }
        index
    }

    #[test]
    fn searches_land_at_or_before_the_place() {
        let index = index_of(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(index.points.len(), 3);
        for wanted in 1..=6 {
            let point = index.by_index(Index(wanted)).unwrap();
            assert!(point.index.0 <= wanted && wanted < point.index.0 + 2);
        }
        for wanted in 0..60 {
            let point = index.by_offset(Offset(wanted)).unwrap();
            assert!(point.offset.0 <= wanted && wanted < point.offset.0 + 20);
        }
        assert_eq!(index.by_index(Index(0)), None);
    }

    #[test]
    fn times_may_jump_back() {
        let index = index_of(&[5, 9, 1, 2, 7, 12]);
        assert_eq!(index.by_time(Timestamp(9)).unwrap().index, Index(1));
        assert_eq!(index.by_time(Timestamp(10)).unwrap().index, Index(5));
        assert_eq!(index.by_time(Timestamp(13)), None);
        assert_eq!(index.time_max(), Some(Timestamp(12)));
    }

    #[test]
    fn a_cut_gives_the_point_to_walk_from() {
        let mut index = index_of(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(index.cut(Index(4)).unwrap().index, Index(3));
        assert_eq!(index.points.len(), 1);
        assert_eq!(index.time_max(), Some(Timestamp(2)));
        assert_eq!(index.time_first(), Some(Timestamp(1)));
        assert_eq!(index.cut(Index(1)).unwrap().index, Index(1));
        assert_eq!((index.time_max(), index.time_first()), (None, None));
    }

    #[test]
    fn the_first_time_is_forgotten_with_its_entry() {
        let mut index = SparseIndex::default();
        let every = POINT_EVERY_BYTES;
        index.note(&header(1, 0), 64, None);
        index.note(&header(2, 0), 64 + every, Some(Timestamp(7)));
        index.note(&header(3, 0), 64 + 2 * every, Some(Timestamp(5)));
        assert_eq!(index.time_first(), Some(Timestamp(7)));
        index.cut(Index(3));
        assert_eq!(index.time_first(), Some(Timestamp(7)));
        index.cut(Index(2));
        assert_eq!(index.time_first(), None);
        index.note(&header(2, 0), 64 + every, Some(Timestamp(9)));
        assert_eq!(index.time_first(), Some(Timestamp(9)));
    }

    #[test]
    fn time_is_found_across_parts() {
        let mut batch = vec![0; 61];
        batch[35..43].copy_from_slice(&0x0102_0304_0506_0708_i64.to_be_bytes());
        assert_eq!(batch_time_max(EntryKind::Data, [&batch, &[]]), None, "it has no records");
        batch[60] = 1;
        for cut in 0..=61 {
            let (head, tail) = batch.split_at(cut);
            let time = batch_time_max(EntryKind::Data, [head, tail]);
            assert_eq!(time, Some(Timestamp(0x0102_0304_0506_0708)));
        }
        assert_eq!(batch_time_max(EntryKind::Data, [&batch[..60], &[]]), None);
        assert_eq!(batch_time_max(EntryKind::NoOp, [&batch, &[]]), None);
    }
}
