//! What is checked of a batch where it comes in, the same for every kind of client.

use bytes::Bytes;
use raftline_proto::batch::{self, BatchError, BatchView, RecordError};
use raftline_proto::entry::BatchInfo;
use raftline_proto::time::Timestamp;
use raftline_shard::coordinator::configs::{Cleanup, timestamps_taken};
use std::collections::BTreeMap;

/// Checks a batch for a topic with these configs. Where the topic is compacted every record needs a key, and where it
/// bounds the times of records each has to be within: so packed records are unpacked for that.
///
/// # Errors
/// The first thing found wrong.
pub(crate) fn validate(
    configs: &BTreeMap<String, String>,
    now: Timestamp,
    bytes: &Bytes,
) -> Result<BatchInfo, BatchError> {
    let info = batch::validate(bytes)?;
    let (needs_keys, times) = (Cleanup::of(configs).compacts(), timestamps_taken(configs, now));
    if needs_keys || times.is_some() {
        let view = BatchView::open(bytes)?;
        for (record, at) in view.records().zip(0..) {
            let record = record?;
            if needs_keys && record.key.is_none() {
                return Err(BatchError::Record { at, reason: RecordError::NoKey });
            }
            let found = record.timestamp;
            if let Some((first, last)) = times
                && !(first..=last).contains(&found)
            {
                let reason = RecordError::TimestampRefused { found, first, last };
                return Err(BatchError::Record { at, reason });
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

    const NOW: Timestamp = Timestamp(1);

    #[test]
    fn records_have_times_that_the_topic_takes() {
        let bound = |name: &str| (format!("message.timestamp.{name}.max.ms"), "1000".to_owned());
        let configs = BTreeMap::from([bound("before"), bound("after")]);
        for codec in [Codec::None, Codec::Lz4] {
            let check = |times: &[i64]| {
                let mut builder = Builder::new(codec);
                for time in times {
                    builder.push(Timestamp(*time), None, Some(b"value"), &[]).unwrap();
                }
                let batch = builder.build();
                assert!(validate(&BTreeMap::new(), Timestamp(5000), &batch).is_ok());
                match validate(&configs, Timestamp(5000), &batch) {
                    Err(BatchError::Record { at, reason: RecordError::TimestampRefused { found, .. } }) => {
                        Some((at, found.get()))
                    }
                    taken => taken.map(|_| None).unwrap(),
                }
            };
            assert_eq!(check(&[4000, 6000, 5000]), None, "{codec}");
            assert_eq!(check(&[5000, 3999, 5000]), Some((1, 3999)), "{codec}");
            assert_eq!(check(&[5000, 5000, 6001]), Some((2, 6001)), "{codec}");
        }
    }

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
                assert!(validate(&configs(policy), NOW, &keyed).is_ok());
                let refused = Err(BatchError::Record { at: 1, reason: RecordError::NoKey });
                assert_eq!(validate(&configs(policy), NOW, &keyless), refused, "{policy}, {codec}");
            }
            assert!(validate(&configs("delete"), NOW, &keyless).is_ok());
            assert!(validate(&BTreeMap::new(), NOW, &keyless).is_ok());
        }
    }
}
