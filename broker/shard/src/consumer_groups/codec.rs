//! Records as bytes: those of Kafka 4.1's group coordinator, so that whatever reads `__consumer_offsets` understands them
//! (Kafka's formatters, monitors of lag, migrations). Key and value stand apart, so that compaction can go by the key.
//!
//! A key begins with what it is the key of, a value with its version, both big-endian `i16`. Keys and the first two values are
//! of Kafka's plain kind: big-endian integers, texts with an `i16` size, bytes and lists with an `i32` one. The other values
//! are of its flexible kind: sizes are varints, and each structure ends with *tagged fields*, of which readers skip what they
//! do not know. Decoding checks every count against the bytes that are there, and never panics.
//!
//! | key | of | Kafka's name | value |
//! | --- | --- | --- | --- |
//! | 1 | group, topic, partition | `OffsetCommit` | version 3 |
//! | 2 | group | `GroupMetadata` | version 3 |
//! | 3 | group | `ConsumerGroupMetadata` | 0; tag 0 is the topics' digest |
//! | 5 | group, member id | `ConsumerGroupMemberMetadata` | 0; tag 0 is what a member says that speaks the classic protocol |
//! | 6 | group | `ConsumerGroupTargetAssignmentMetadata` | 0 |
//! | 7 | group, member id | `ConsumerGroupTargetAssignmentMember` | 0 |
//! | 8 | group, member id | `ConsumerGroupCurrentMemberAssignment` | 0; of a topic's partitions, tag 0 is since when the member has each (KIP-1251) |
//!
//! Key 4 is written no more since Kafka 4.1. Key 16, what a regular expression matches, is a cache of Kafka's; it is found
//! anew here.
//!
//! What is kept here and not in Kafka has a tagged field with the number [`OWN_TAG`]: of key 3 the time of the epoch, and of
//! each topic in keys 7 and 8 its name. Kafka names topics by their id alone there. A leader may read the log before it knows
//! of a topic that was made a moment ago, and must not forget who owns it.
//!
//! What Raftline wrote before, see [`earlier`], is read too.

pub mod earlier;
mod fields;
mod read;
mod write;

#[cfg(test)]
mod tests;

use super::record::GroupRecord;
use alloc::vec::Vec;
use core::fmt;
use fields::int16;
use raftline_proto::cursor::{CursorError, Reader};

/// A record's key and value as the internal topic keeps them.
pub type KeyValue = (Vec<u8>, Option<Vec<u8>>);

/// A topic's id by its name; `None` of a topic that is not known (any more).
pub type TopicIds<'a> = &'a dyn Fn(&str) -> Option<u128>;

impl GroupRecord {
    /// The record's key and value. A topic without an id gets Kafka's zero id, and its name all the same.
    ///
    /// # Panics
    /// If a text is longer than an `i16` can say: all texts are bounded where they come in.
    #[must_use]
    pub fn encode(&self, topic_id: TopicIds<'_>) -> KeyValue {
        (write::key(self), write::value(self, topic_id))
    }

    /// Reads a record of the internal topic; no value is a tombstone.
    ///
    /// # Errors
    /// Why it is not a record that this version knows.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, RecordError> {
        let mut key = Reader::new(key);
        let kind = int16(&mut key)?;
        let record = match kind {
            kind::OFFSET => read::offset(&mut key, value)?,
            kind::CLASSIC => read::classic(&mut key, value)?,
            kind::CONSUMER => read::consumer(&mut key, value)?,
            kind::CONSUMER_MEMBER => read::consumer_member(&mut key, value)?,
            kind::CONSUMER_TARGET_EPOCH => read::consumer_target_epoch(&mut key, value)?,
            kind::CONSUMER_TARGET => read::consumer_target(&mut key, value)?,
            kind::CONSUMER_CURRENT => read::consumer_current(&mut key, value)?,
            found => return Err(RecordError::Kind { found }),
        };
        key.finish()?;
        Ok(record)
    }
}

/// The number of the tagged fields that only Raftline knows: far from any that Kafka gives away.
pub const OWN_TAG: u32 = 10_000;

/// What a key is of: Kafka's numbers.
mod kind {
    pub const OFFSET: i16 = 1;
    pub const CLASSIC: i16 = 2;
    pub const CONSUMER: i16 = 3;
    pub const CONSUMER_MEMBER: i16 = 5;
    pub const CONSUMER_TARGET_EPOCH: i16 = 6;
    pub const CONSUMER_TARGET: i16 = 7;
    pub const CONSUMER_CURRENT: i16 = 8;
}

/// Of offsets and classic groups: the last one of the plain kind.
const PLAIN_VERSION: i16 = 3;

/// Of all that belongs to groups of the new protocol.
const FLEXIBLE_VERSION: i16 = 0;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Cut short, too long, or out of bounds.
    Malformed(CursorError),
    /// A kind of record that this version does not know.
    Kind {
        /// The key's first number.
        found: i16,
    },
    /// A layout of the value that this version does not know.
    Version {
        /// The value's first number.
        found: i16,
    },
    /// A byte that says which of some variants follows says none of them.
    Tag {
        /// The byte.
        found: u8,
    },
    /// A number, or the size of something that has to be there, is out of its range.
    Number {
        /// The number.
        found: i32,
    },
    /// A topic is named by its id alone: the record is another coordinator's.
    NoTopicName {
        /// The topic's id.
        id: u128,
    },
}

impl From<CursorError> for RecordError {
    fn from(error: CursorError) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(formatter, "a group record is malformed: {error}"),
            Self::Kind { found } => write!(formatter, "a group record of kind {found}: run a newer Raftline"),
            Self::Version { found } => {
                write!(formatter, "a group record of version {found}: run a newer Raftline")
            }
            Self::Tag { found } => write!(formatter, "a group record has the unknown tag {found}"),
            Self::Number { found } => {
                write!(formatter, "a group record has the number {found} out of its range")
            }
            Self::NoTopicName { id } => {
                write!(
                    formatter,
                    "a group record names the topic {id:032x} by its id alone, as no Raftline does"
                )
            }
        }
    }
}

impl core::error::Error for RecordError {}
