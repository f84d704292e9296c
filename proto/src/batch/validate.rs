//! What a broker accepts from a client.

use super::record::Records;
use super::{BatchError, BatchHeader, CRC_FROM, Codec, HEADER_BYTES};
use crate::entry::BatchInfo;
use crate::limits::BATCH_BYTES_MAX;

/// Attribute bits that a plain producer may set: the codec.
const CLIENT_ATTRIBUTES: u16 = 0x7;

/// Checks a batch that a client wants appended: exactly one batch, format 2, base offset 0, dense offsets, a known
/// codec, no transaction, producer fields that go together, the checksum; and of a batch that is not packed, every
/// record. Packed records are not unpacked here: see [`super::BatchView`].
///
/// # Errors
/// The first thing found wrong, with both values where two disagree.
pub fn validate(bytes: &[u8]) -> Result<BatchInfo, BatchError> {
    let header = check_crc(bytes)?;
    if header.base_offset.0 != 0 {
        return Err(BatchError::BaseOffset { found: header.base_offset.0.cast_signed() });
    }
    let signed = |count| i32::try_from(count).expect("counts are bounded");
    if header.record_count == 0 {
        return Err(BatchError::RecordCount { found: 0 });
    }
    // Dense offsets (DESIGN D1): a batch with gaps would make offsets that no record ever had. Compaction alone leaves
    // such, of records that were there.
    if header.record_count != header.offset_count {
        let (record_count, last_offset_delta) =
            (signed(header.record_count), signed(header.offset_count - 1));
        return Err(BatchError::LastOffsetDelta { record_count, last_offset_delta });
    }
    let attributes = header.attributes;
    if attributes.is_control() {
        return Err(BatchError::Control);
    }
    if attributes.is_transactional() {
        return Err(BatchError::Transactional);
    }
    if attributes.get() & !CLIENT_ATTRIBUTES != 0 {
        return Err(BatchError::Attributes { found: attributes.get() });
    }
    if attributes.codec()? == Codec::None {
        for record in Records::new(&header, &bytes[HEADER_BYTES..]) {
            record?;
        }
    }
    Ok(header.info())
}

/// Checks that `bytes` are exactly one batch with the right checksum: what a reader has to know of stored bytes.
///
/// # Errors
/// [`BatchError::Crc`] with both values, or what [`BatchHeader::decode`] says.
pub fn check_crc(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    if bytes.len() > BATCH_BYTES_MAX as usize {
        return Err(BatchError::TooLarge { found: bytes.len() as u64, max: BATCH_BYTES_MAX });
    }
    let header = BatchHeader::decode(bytes)?;
    let available = bytes.len() as u64;
    let needed = u64::from(header.batch_bytes);
    if needed > available {
        return Err(BatchError::Truncated { needed, available });
    }
    if needed < available {
        return Err(BatchError::Trailing { batch_bytes: header.batch_bytes, available });
    }
    let computed = crc32c::crc32c(&bytes[CRC_FROM..]);
    if header.crc != computed {
        return Err(BatchError::Crc { stored: header.crc, computed });
    }
    Ok(header)
}
