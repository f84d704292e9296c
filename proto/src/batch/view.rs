//! A batch whose records can be read, without copying them where they are not packed.

use super::record::Records;
use super::{BatchError, BatchHeader, Codec, HEADER_BYTES, check_crc, compression};
use crate::limits::BATCH_UNPACKED_BYTES_MAX;
use bytes::Bytes;

/// A batch that was verified and unpacked. Records are read as borrowed views; [`BatchView::share`] turns a view's
/// part into `Bytes` that keep the batch alive.
#[derive(Clone, Debug)]
pub struct BatchView {
    header: BatchHeader,
    /// What follows the header, unpacked.
    unpacked: Bytes,
}

impl BatchView {
    /// Verifies the checksum of `batch`, which holds one batch and no more, and unpacks it to at most
    /// [`BATCH_UNPACKED_BYTES_MAX`]. The records are checked as they are read.
    ///
    /// # Errors
    /// What [`check_crc`] says, or why the records cannot be unpacked.
    pub fn open(batch: &Bytes) -> Result<Self, BatchError> {
        let header = check_crc(batch)?;
        let packed = batch.slice(HEADER_BYTES..);
        let unpacked = match header.attributes.codec()? {
            Codec::None => packed,
            // What compaction leaves of a batch may have no records, and then there is nothing to unpack.
            _ if header.record_count == 0 && packed.is_empty() => packed,
            codec => compression::unpack(codec, &packed, BATCH_UNPACKED_BYTES_MAX)?.into(),
        };
        Ok(Self { header, unpacked })
    }

    /// The batch's header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The size of the records, unpacked.
    #[must_use]
    pub fn unpacked_bytes(&self) -> usize {
        self.unpacked.len()
    }

    /// What follows the header, unpacked.
    pub(super) fn unpacked(&self) -> &[u8] {
        &self.unpacked
    }

    /// The records in order; ends after the first error.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records::new(&self.header, &self.unpacked)
    }

    /// A key, value or header value of one of this batch's records as shared bytes, without a copy.
    ///
    /// # Panics
    /// If `part` is not a part of this batch's unpacked records: a bug of the caller.
    #[must_use]
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.unpacked.slice_ref(part)
    }
}
