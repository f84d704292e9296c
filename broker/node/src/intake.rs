//! What is checked of a batch where it comes in, the same for every kind of client.

use bytes::Bytes;
use raftline_proto::batch::{self, BatchError, BatchView, RecordError};
use raftline_proto::entry::BatchInfo;
use raftline_shard::coordinator::configs::Cleanup;
use std::collections::BTreeMap;

/// Checks a batch for a topic with these configs. Where the topic is compacted every record needs a key: so packed
/// records are unpacked for that.
///
/// # Errors
/// The first thing found wrong.
pub(crate) fn validate(configs: &BTreeMap<String, String>, bytes: &Bytes) -> Result<BatchInfo, BatchError> {
    let info = batch::validate(bytes)?;
    if Cleanup::of(configs).compacts() {
        let view = BatchView::open(bytes)?;
        for (record, at) in view.records().zip(0..) {
            if record?.key.is_none() {
                return Err(BatchError::Record { at, reason: RecordError::NoKey });
            }
        }
    }
    Ok(info)
}

/// Which records to blame, by their place in the batch, for what [`validate`] found: all that have no key, for a client
/// tells its callers which of a refused batch's records they have to change. Else the first one, behind which nothing can
/// be read. At most [`BLAMED_RECORDS_MAX`].
pub(crate) fn blamed(bytes: &Bytes, found: &BatchError) -> Vec<u32> {
    match *found {
        BatchError::Record { reason: RecordError::NoKey, .. } => {
            let Ok(view) = BatchView::open(bytes) else { return Vec::new() };
            let keyless = (0..).zip(view.records()).filter_map(|(at, record)| match record {
                Ok(record) if record.key.is_none() => Some(at),
                Ok(_) | Err(_) => None,
            });
            keyless.take(BLAMED_RECORDS_MAX).collect()
        }
        BatchError::Record { at, .. } => vec![at],
        _ => Vec::new(),
    }
}

/// Records of a refused batch that an answer names: so that it is not larger than most requests are.
const BLAMED_RECORDS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use raftline_proto::batch::{Builder, Codec};
    use raftline_proto::time::Timestamp;

    #[test]
    fn records_of_compacted_topics_have_keys() {
        let configs = |policy: &str| BTreeMap::from([("cleanup.policy".to_owned(), policy.to_owned())]);
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
            let batch = |keys: &[Option<&[u8]>]| {
                let mut builder = Builder::new(codec);
                for key in keys {
                    builder.push(Timestamp(1), *key, Some(b"value"), &[]).unwrap();
                }
                builder.build()
            };
            let (keyed, keyless) = (batch(&[Some(b"a"), Some(b"")]), batch(&[Some(b"a"), None]));
            for policy in ["compact", "compact,delete"] {
                assert!(validate(&configs(policy), &keyed).is_ok());
                let refused = Err(BatchError::Record { at: 1, reason: RecordError::NoKey });
                assert_eq!(validate(&configs(policy), &keyless), refused, "{policy}, {codec}");
            }
            assert!(validate(&configs("delete"), &keyless).is_ok());
            assert!(validate(&BTreeMap::new(), &keyless).is_ok());
        }
    }
}
