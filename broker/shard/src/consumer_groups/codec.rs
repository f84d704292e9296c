//! Records as bytes. Key and value stand apart, so that compaction can go by the key.
//!
//! A key is its kind (`u8`) and the names in it; it never changes its layout, a new layout would be a new kind.
//! A value begins with its version (`u8`), 1 unless said otherwise. Integers are little-endian, a text has a `u16` size, bytes and lists a
//! `u32` count, an optional text is a `u8` 0 or 1 and the text. Decoding checks every count against the bytes that
//! are there, and never panics.
//!
//! | kind | key after the kind | value, version 1, after the version |
//! | --- | --- | --- |
//! | 1 offset | group, topic, partition `i32` | offset `i64`, leader epoch `i32`, metadata, commit time `i64` ms |
//! | 2 classic group | group | generation `i32`, protocol type, protocol?, leader?, state time `i64` ms, members: id, instance id?, client id, client host, session and rebalance timeout `u32` ms, subscription bytes, assignment bytes |
//! | 3 consumer group | group | epoch `i32`, target epoch `i32`, topics' digest `u64`, epoch time `i64` ms |
//! | 4 its member | group, member id | instance id?, rack id?, client id, client host, rebalance timeout `u32` ms, list of topics, assignor?; then in version 2, which only members with a regular expression have, its text; or in version 3, which only members have that speak the classic protocol, session timeout `u32` ms and protocols: name, bytes |
//! | 5 a member's target | group, member id | list of topics, each with a list of partitions `i32` |
//! | 6 where a member is | group, member id | member epoch `i32`, previous epoch `i32`, state `u8` (0 stable, 1 unrevoked, 2 unreleased), assigned and revoking, each as in 5; then in version 2, which only members have that have had partitions since an earlier epoch, these: list of topics, each with a list of partition `i32` and epoch `i32` |

mod read;
mod write;

#[cfg(test)]
mod tests;

use super::record::GroupRecord;
use alloc::vec::Vec;
use core::fmt;
use raftline_proto::cursor::{CursorError, Reader};

/// A record's key and value as the internal topic keeps them.
pub type KeyValue = (Vec<u8>, Option<Vec<u8>>);

impl GroupRecord {
    /// The record's key and value.
    ///
    /// # Panics
    /// If a text is longer than a `u16` can say: all texts are bounded where they come in.
    #[must_use]
    pub fn encode(&self) -> KeyValue {
        (write::key(self), write::value(self))
    }

    /// Reads a record of the internal topic; no value is a tombstone.
    ///
    /// # Errors
    /// Why it is not a record that this version knows.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, RecordError> {
        let mut key = Reader::new(key);
        let kind = key.u8()?;
        let record = match kind {
            kind::OFFSET => read::offset(&mut key, value)?,
            kind::CLASSIC => read::classic(&mut key, value)?,
            kind::CONSUMER => read::consumer(&mut key, value)?,
            kind::CONSUMER_MEMBER => read::consumer_member(&mut key, value)?,
            kind::CONSUMER_TARGET => read::consumer_target(&mut key, value)?,
            kind::CONSUMER_CURRENT => read::consumer_current(&mut key, value)?,
            found => return Err(RecordError::Kind { found }),
        };
        key.finish()?;
        Ok(record)
    }
}

/// The first byte of a key.
mod kind {
    pub const OFFSET: u8 = 1;
    pub const CLASSIC: u8 = 2;
    pub const CONSUMER: u8 = 3;
    pub const CONSUMER_MEMBER: u8 = 4;
    pub const CONSUMER_TARGET: u8 = 5;
    pub const CONSUMER_CURRENT: u8 = 6;
}

/// The first byte of every value but those that say otherwise.
const VALUE_VERSION: u8 = 1;

/// The first byte of a member's value that has a regular expression: versions that know none refuse it, and read all
/// other members.
const MEMBER_VERSION_WITH_EXPRESSION: u8 = 2;

/// The first byte of a member's value that speaks the classic protocol; it has no regular expression.
const MEMBER_VERSION_WITH_CLASSIC: u8 = 3;

/// The first byte of where a member is, if it has had partitions since an earlier epoch. The first version says the same
/// of one that got all that it has in its epoch.
const CURRENT_VERSION_WITH_EPOCHS: u8 = 2;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Cut short, too long, or out of bounds.
    Malformed(CursorError),
    /// A kind of record that only a newer version knows.
    Kind {
        /// The byte.
        found: u8,
    },
    /// A layout of the value that only a newer version knows.
    Version {
        /// The byte.
        found: u8,
    },
    /// A byte that says which of some variants follows says none of them.
    Tag {
        /// The byte.
        found: u8,
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
        }
    }
}

impl core::error::Error for RecordError {}
