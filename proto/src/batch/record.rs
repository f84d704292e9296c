//! The records of an unpacked batch, as borrowed views.
//!
//! ```text
//! varint   size of what follows
//! i8       attributes, unused
//! varlong  timestamp delta
//! varint   offset delta
//! varint   key size or -1, key
//! varint   value size or -1, value
//! varint   headers, each: varint name size, name, varint value size or -1, value
//! ```

use super::{BatchError, BatchHeader, RecordError};
use crate::cursor::Reader;
use crate::ids::Offset;
use crate::limits::RECORD_HEADERS_MAX;
use crate::time::Timestamp;

/// One record. Absent (`None`) and empty are different keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Its time, by its producer or (log append time) by its broker.
    pub timestamp: Timestamp,
    /// Decides its partition.
    pub key: Option<&'a [u8]>,
    /// What it says.
    pub value: Option<&'a [u8]>,
    /// In the order sent; names may repeat.
    pub headers: Headers<'a>,
}

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// UTF-8 by Kafka's convention, which is not checked.
    pub name: &'a [u8],
    /// What it says.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record: an iterator over views, already range-checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    left: u32,
    bytes: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        let mut reader = Reader::new(self.bytes);
        // Cannot fail: `read_headers` has read the same bytes to the end.
        let header = read_header(&mut reader).ok()?;
        self.bytes = reader.rest();
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// Iterates over the unpacked records of a batch; after an error it ends.
///
/// Yields exactly as many records as the batch's header says, or an error. Their offsets ascend; they are dense unless
/// compaction dropped some.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    header: BatchHeader,
    at: u32,
    /// The least offset delta that the next record may have.
    next_delta: u32,
    reader: Reader<'a>,
}

impl<'a> Records<'a> {
    /// The records in `unpacked`, what follows the header of a batch, unpacked if a codec is named there.
    #[must_use]
    pub const fn new(header: &BatchHeader, unpacked: &'a [u8]) -> Self {
        Self { header: *header, at: 0, next_delta: 0, reader: Reader::new(unpacked) }
    }

    /// How many bytes of the records were not read yet.
    #[cfg(feature = "std")]
    pub(super) const fn remaining(&self) -> usize {
        self.reader.remaining()
    }

    fn read(&mut self) -> Result<Record<'a>, RecordError> {
        let offsets = u64::from(self.header.offset_count);
        let size = read_size(&mut self.reader)?.ok_or(RecordError::Length { found: -1 })?;
        let mut reader = Reader::new(self.reader.bytes(size)?);
        reader.u8()?;
        let timestamp_delta = reader.varlong()?;
        let offset_delta = reader.varint()?;
        // Those after it need an offset each. So in a batch that was not compacted there is one choice only.
        let after = self.header.record_count - self.at;
        let delta = u32::try_from(offset_delta)
            .ok()
            .filter(|delta| *delta >= self.next_delta && u64::from(*delta) + u64::from(after) <= offsets)
            .ok_or(RecordError::OffsetDelta { found: offset_delta })?;
        let key = read_optional(&mut reader)?;
        let value = read_optional(&mut reader)?;
        let headers = read_headers(&mut reader)?;
        if !reader.is_empty() {
            return Err(RecordError::Trailing { bytes: reader.remaining() as u64 });
        }
        let timestamp = if self.header.attributes.is_log_append_time() {
            self.header.max_timestamp
        } else {
            let timestamp = self.header.base_timestamp.0.checked_add(timestamp_delta);
            Timestamp(timestamp.ok_or(RecordError::Timestamp)?)
        };
        self.next_delta = delta + 1;
        Ok(Record { offset: self.header.base_offset + u64::from(delta), timestamp, key, value, headers })
    }

    /// Ends the iteration with an error.
    fn fail(&mut self, reason: RecordError) -> BatchError {
        let at = self.at;
        self.at = self.header.record_count;
        self.reader = Reader::new(&[]);
        BatchError::Record { at, reason }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.header.record_count {
            let bytes = self.reader.remaining() as u64;
            return (bytes > 0).then(|| Err(self.fail(RecordError::AfterLast { bytes })));
        }
        match self.read() {
            Ok(record) => {
                self.at += 1;
                Some(Ok(record))
            }
            Err(reason) => Some(Err(self.fail(reason))),
        }
    }
}

/// A size, or `None` for -1.
fn read_size(reader: &mut Reader<'_>) -> Result<Option<usize>, RecordError> {
    match reader.varint()? {
        -1 => Ok(None),
        found => usize::try_from(found).map(Some).map_err(|_| RecordError::Length { found }),
    }
}

fn read_optional<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, RecordError> {
    match read_size(reader)? {
        Some(size) => Ok(Some(reader.bytes(size)?)),
        None => Ok(None),
    }
}

fn read_header<'a>(reader: &mut Reader<'a>) -> Result<Header<'a>, RecordError> {
    let name = read_optional(reader)?.ok_or(RecordError::Length { found: -1 })?;
    let value = read_optional(reader)?;
    Ok(Header { name, value })
}

fn read_headers<'a>(reader: &mut Reader<'a>) -> Result<Headers<'a>, RecordError> {
    let found = reader.varint()?;
    let left = u32::try_from(found)
        .ok()
        .filter(|count| *count <= RECORD_HEADERS_MAX)
        .ok_or(RecordError::HeaderCount { found })?;
    let bytes = reader.rest();
    for _ in 0..left {
        read_header(reader)?;
    }
    let read = bytes.len() - reader.remaining();
    Ok(Headers { left, bytes: &bytes[..read] })
}
