//! When a producer's batch is refused, and what is answered then.

use crate::error::ErrorCode;
use raftline_proto::batch::{BatchError, Codec, RecordError};

/// Kafka's code for what [`raftline_proto::batch::validate`] found.
///
/// Clients send a `CORRUPT_MESSAGE` again; `MESSAGE_TOO_LARGE` makes Java split the batch; the others are final, and
/// the answer should carry the error's text as its message (Produce v8).
#[must_use]
pub const fn error_code(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::Truncated { .. } | BatchError::Length { .. } | BatchError::Crc { .. } => {
            ErrorCode::CorruptMessage
        }
        BatchError::TooLarge { .. } | BatchError::UnpackedTooLarge { .. } => ErrorCode::MessageTooLarge,
        BatchError::Codec { .. } => ErrorCode::UnsupportedCompressionType,
        BatchError::Transactional => ErrorCode::UnsupportedForMessageFormat,
        BatchError::Record { reason: RecordError::TimestampRefused { .. }, .. } => {
            ErrorCode::InvalidTimestamp
        }
        // A second batch behind the first, an old record format and the like: sent like this on purpose.
        BatchError::Trailing { .. }
        | BatchError::Magic { .. }
        | BatchError::BaseOffset { .. }
        | BatchError::RecordCount { .. }
        | BatchError::LastOffsetDelta { .. }
        | BatchError::Producer { .. }
        | BatchError::Control
        | BatchError::Attributes { .. }
        | BatchError::Record { .. }
        | BatchError::Unpack { .. } => ErrorCode::InvalidRecord,
    }
}

/// Whether a Produce request of that version may use the codec: a client that packs by zstd in an older version than
/// 7 has not looked at what is served (KIP-110).
#[must_use]
pub const fn check_codec(version: i16, codec: Codec) -> ErrorCode {
    match codec {
        Codec::Zstd if version < ZSTD_FROM => ErrorCode::UnsupportedCompressionType,
        Codec::None | Codec::Gzip | Codec::Snappy | Codec::Lz4 | Codec::Zstd => ErrorCode::None,
    }
}

const ZSTD_FROM: i16 = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use raftline_proto::batch::{Builder, validate};
    use raftline_proto::time::Timestamp;

    fn batch() -> Vec<u8> {
        let mut builder = Builder::new(Codec::None);
        builder.push(Timestamp(1), None, Some(b"value"), &[]).expect("small");
        builder.build().to_vec()
    }

    /// What a batch is answered whose byte `at` is changed to `byte`.
    fn answer(at: usize, byte: u8) -> ErrorCode {
        let mut batch = batch();
        batch[at] = byte;
        error_code(&validate(&batch).expect_err("it was changed"))
    }

    #[test]
    fn zstd_needs_a_version_that_knows_it() {
        assert_eq!(check_codec(6, Codec::Zstd), ErrorCode::UnsupportedCompressionType);
        assert_eq!(check_codec(7, Codec::Zstd), ErrorCode::None);
        assert_eq!(check_codec(3, Codec::Lz4), ErrorCode::None);
    }

    #[test]
    fn damage_may_be_sent_again_and_refusals_are_final() {
        assert_eq!(answer(61, 99), ErrorCode::CorruptMessage, "the bytes under the checksum");
        assert_eq!(answer(16, 1), ErrorCode::InvalidRecord, "magic 1");
        assert_eq!(answer(7, 1), ErrorCode::InvalidRecord, "a base offset from a client");
        assert_eq!(answer(22, 7), ErrorCode::UnsupportedCompressionType);
        assert_eq!(answer(8, 0x7f), ErrorCode::MessageTooLarge);
        let twice = [batch(), batch()].concat();
        assert_eq!(error_code(&validate(&twice).expect_err("two batches")), ErrorCode::InvalidRecord);
    }
}
