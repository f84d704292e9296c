//! What the coordinator reads and writes of classic consumers' embedded protocol: Kafka's `ConsumerProtocolSubscription`
//! and `ConsumerProtocolAssignment`. Big-endian; a text has an `i16` size, lists and bytes an `i32` count.
//!
//! A subscription is version `i16`, topics, user data bytes, from version 1 on what the member owns (a cooperative one),
//! and more that is not read here. An assignment is version `i16`, topics with their partitions, user data bytes.

use super::record::Assignment;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use raftline_proto::cursor::Reader;
use raftline_proto::limits::TOPIC_NAME_BYTES_MAX;

/// What a classic consumer says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subscription {
    /// By name.
    pub topics: BTreeSet<String>,
    /// What it holds on to while it joins; an eager consumer nothing.
    pub owned: Assignment,
    version: i16,
}

impl Subscription {
    /// Reads one; `None` if it is none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let (version, topics) = head(&mut reader)?;
        skip_bytes(&mut reader)?;
        let owned = if version >= OWNED_FROM { partitions(&mut reader)? } else { Assignment::new() };
        Some(Self { topics, owned, version })
    }

    /// An assignment for this member, as it reads them.
    pub fn assignment(&self, assigned: &Assignment) -> Vec<u8> {
        let mut bytes = self.version.min(ASSIGNMENT_VERSION_MAX).to_be_bytes().to_vec();
        bytes.extend(count(assigned.len()));
        for (topic, partitions) in assigned {
            let size = i16::try_from(topic.len()).expect("names are bounded where they come in");
            bytes.extend(size.to_be_bytes());
            bytes.extend(topic.as_bytes());
            bytes.extend(count(partitions.len()));
            bytes.extend(partitions.iter().flat_map(|partition| partition.to_be_bytes()));
        }
        // No user data.
        bytes.extend((-1_i32).to_be_bytes());
        bytes
    }
}

/// The topics of a subscription; `None` if it is not one.
pub(super) fn topics_of(subscription: &[u8]) -> Option<BTreeSet<String>> {
    head(&mut Reader::new(subscription)).map(|(_, topics)| topics)
}

/// What an assignment gives; `None` if it is not one.
pub(super) fn assignment_of(bytes: &[u8]) -> Option<Assignment> {
    let mut reader = Reader::new(bytes);
    let version = i16::from_be_bytes(reader.array().ok()?);
    if version < 0 { None } else { partitions(&mut reader) }
}

/// The version and the topics, with which a subscription begins.
fn head(reader: &mut Reader<'_>) -> Option<(i16, BTreeSet<String>)> {
    let version = i16::from_be_bytes(reader.array().ok()?);
    let count = i32::from_be_bytes(reader.array().ok()?);
    if version < 0 || count < 0 {
        return None;
    }
    let mut topics = BTreeSet::new();
    // Ends at the first string that is not there, whatever the count claims.
    for _ in 0..count {
        topics.insert(topic(reader)?);
    }
    Some((version, topics))
}

fn topic(reader: &mut Reader<'_>) -> Option<String> {
    let size = i16::from_be_bytes(reader.array().ok()?);
    let size = usize::try_from(size).ok().filter(|size| *size <= TOPIC_NAME_BYTES_MAX)?;
    core::str::from_utf8(reader.bytes(size).ok()?).ok().map(ToOwned::to_owned)
}

fn skip_bytes(reader: &mut Reader<'_>) -> Option<()> {
    let size = i32::from_be_bytes(reader.array().ok()?);
    match usize::try_from(size) {
        Ok(size) => reader.bytes(size).ok().map(drop),
        // Null.
        Err(_) => (size == -1).then_some(()),
    }
}

fn partitions(reader: &mut Reader<'_>) -> Option<Assignment> {
    let topics = i32::from_be_bytes(reader.array().ok()?);
    if topics < 0 {
        return None;
    }
    let mut assignment = Assignment::new();
    for _ in 0..topics {
        let name = topic(reader)?;
        let partitions = i32::from_be_bytes(reader.array().ok()?);
        for _ in 0..partitions {
            let partition = i32::from_be_bytes(reader.array().ok()?);
            assignment.entry(name.clone()).or_default().insert(partition);
        }
    }
    Some(assignment)
}

fn count(count: usize) -> [u8; 4] {
    i32::try_from(count).expect("lists are bounded where they come in").to_be_bytes()
}

/// Subscriptions say from this version on what the member owns.
const OWNED_FROM: i16 = 1;

/// The newest version of an assignment; all look alike.
const ASSIGNMENT_VERSION_MAX: i16 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_anything_else_is_not() {
        let bytes = [0, 3, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 255, 255, 255, 255];
        let topics = topics_of(&bytes).expect("a subscription");
        assert_eq!(topics.iter().map(|topic| topic.as_str()).collect::<Vec<_>>(), ["a", "bc"]);
        for cut in 0..13 {
            assert_eq!(topics_of(&bytes[..cut]), None, "cut {cut}");
        }
        assert_eq!(topics_of(&[0, 0, 127, 255, 255, 255]), None);
    }

    #[test]
    fn what_a_member_owns_is_read_from_version_1_on() {
        let mut bytes = [0, 1, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 2, 9, 9].to_vec();
        bytes.extend([0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 7]);
        let read = Subscription::read(&bytes).expect("a subscription");
        let owned: Assignment = [("a".to_owned(), BTreeSet::from([4, 7]))].into();
        assert_eq!(read.owned, owned);
        for cut in 0..bytes.len() {
            assert_eq!(Subscription::read(&bytes[..cut]), None, "cut {cut}");
        }
        bytes[1] = 0;
        assert_eq!(Subscription::read(&bytes).expect("an eager one").owned, Assignment::new());
    }

    #[test]
    fn an_assignment_comes_back_as_it_was() {
        let bytes = [0, 3, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0];
        let subscription = Subscription::read(&bytes).expect("a subscription");
        let assigned: Assignment =
            [("a".to_owned(), BTreeSet::from([0, 2])), ("b".to_owned(), BTreeSet::from([1]))].into();
        let written = subscription.assignment(&assigned);
        assert_eq!(written[..2], [0, 3]);
        assert_eq!(assignment_of(&written), Some(assigned));
        assert_eq!(assignment_of(&[]), None);
        assert_eq!(assignment_of(&[0, 0, 127, 255, 255, 255]), None);
    }
}
