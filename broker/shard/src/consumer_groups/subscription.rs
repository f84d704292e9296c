//! The one thing the coordinator reads of a classic consumer's subscription: its topics (Kafka's
//! `ConsumerProtocolSubscription`, big-endian: version `i16`, then an array of strings).

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::String;
use raftline_proto::cursor::Reader;
use raftline_proto::limits::TOPIC_NAME_BYTES_MAX;

/// The topics of a subscription; `None` if it is not one.
pub(super) fn topics_of(subscription: &[u8]) -> Option<BTreeSet<String>> {
    let mut reader = Reader::new(subscription);
    let version = i16::from_be_bytes(reader.array().ok()?);
    let count = i32::from_be_bytes(reader.array().ok()?);
    if version < 0 || count < 0 {
        return None;
    }
    let mut topics = BTreeSet::new();
    // Ends at the first string that is not there, whatever the count claims.
    for _ in 0..count {
        let size = i16::from_be_bytes(reader.array().ok()?);
        let size = usize::try_from(size).ok().filter(|size| *size <= TOPIC_NAME_BYTES_MAX)?;
        let name = core::str::from_utf8(reader.bytes(size).ok()?).ok()?;
        topics.insert(name.to_owned());
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::topics_of;

    #[test]
    fn topics_are_read_and_anything_else_is_not() {
        let bytes = [0, 3, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 255, 255, 255, 255];
        let topics = topics_of(&bytes).expect("a subscription");
        assert_eq!(topics.iter().map(|topic| topic.as_str()).collect::<alloc::vec::Vec<_>>(), ["a", "bc"]);
        for cut in 0..13 {
            assert_eq!(topics_of(&bytes[..cut]), None, "cut {cut}");
        }
        assert_eq!(topics_of(&[0, 0, 127, 255, 255, 255]), None);
    }
}
