//! One enum for each question a caller can ask. Every message names what was asked, what was found and what to do
//! next; every variant carries the values, so that no program has to read the message.

use raftline_proto::ids::{Offset, PartitionIndex};
use std::fmt;
use std::time::Duration;

pub use raftline_proto::api::ErrorCode;

/// A broker's refusal, as it came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

/// One broker that was tried, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// `host:port`.
    pub address: String,
    /// What went wrong.
    pub reason: String,
}

/// Every broker that was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts(pub Vec<Attempt>);

impl fmt::Display for Attempts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, attempt) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(formatter, "{separator}{}: {}", attempt.address, attempt.reason)?;
        }
        Ok(())
    }
}

/// Why there is no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// An empty list was given.
    #[error("no broker address was given: name at least one as HOST:GRPC_PORT")]
    NoBrokers,
    /// Not an address.
    #[error("`{address}` is no broker address ({reason}): write HOST:GRPC_PORT, for example 127.0.0.1:9192")]
    InvalidAddress {
        /// As given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// None of the brokers answered.
    #[error(
        "no broker answered ({tried}): check that the brokers run and that these are their gRPC addresses"
    )]
    Unreachable {
        /// All that were tried.
        tried: Attempts,
    },
}

/// Why a record was not taken by [`crate::Producer::send`]: nothing of it was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The producer was closed.
    #[error("the producer is closed: make a new one to go on sending")]
    Closed,
    /// No broker knows the topic.
    #[error("topic `{topic}` does not exist: create it first (`raftline topic create {topic}`)")]
    UnknownTopic {
        /// As asked for.
        topic: String,
    },
    /// The topic cannot be used.
    #[error("topic `{topic}` cannot be used: {refusal}")]
    Refused {
        /// As asked for.
        topic: String,
        /// The broker's words.
        refusal: Refusal,
    },
    /// The record asks for a partition that the topic does not have.
    #[error("topic `{topic}` has no partition {asked}: it has {partitions}, numbered from 0")]
    NoSuchPartition {
        /// The topic.
        topic: String,
        /// What the record asked for.
        asked: PartitionIndex,
        /// How many there are.
        partitions: u32,
    },
    /// The record alone is over the bound of a batch.
    #[error(
        "a record of {bytes} bytes is over the {bytes_max} bytes that topic `{topic}` takes in a batch: raise \
         max.message.bytes of the topic (at most 16 MiB) or send less"
    )]
    RecordTooLarge {
        /// The topic.
        topic: String,
        /// The record's size as encoded.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// More headers than a record may have.
    #[error(
        "a record with {found} headers is over the bound of {}",
        raftline_proto::limits::RECORD_HEADERS_MAX
    )]
    TooManyHeaders {
        /// How many it has.
        found: usize,
    },
    /// No broker told where the topic lives.
    #[error("nothing is known about topic `{topic}`, as no broker answered for {waited:?} ({tried})")]
    Unreachable {
        /// As asked for.
        topic: String,
        /// How long was tried.
        waited: Duration,
        /// The last attempts.
        tried: Attempts,
    },
}

/// What is known of a record that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is not in the log, and will not be.
    NotStored,
    /// It may be in the log, or may still get there.
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotStored => "it was not stored",
            Self::Unknown => "whether it was stored is unknown",
        })
    }
}

/// Why a [`crate::Ticket`] failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// The broker will not take it, however often it is sent.
    #[error("topic `{topic}` partition {partition} refused the record, it was not stored: {refusal}")]
    Refused {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// The broker's words.
        refusal: Refusal,
    },
    /// No answer that settles it within the delivery timeout.
    #[error(
        "no acknowledgement from topic `{topic}` partition {partition} within {waited:?}, {outcome}; last failure: \
         {last_failure}"
    )]
    TimedOut {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// The delivery timeout.
        waited: Duration,
        /// What is known.
        outcome: Outcome,
        /// Why the last attempt failed.
        last_failure: String,
    },
    /// An attempt ended without an answer, and a further one could store the record twice.
    #[error(
        "topic `{topic}` partition {partition}: whether the record was stored is unknown, and sending it again could \
         store it twice: {last_failure}"
    )]
    OutcomeUnknown {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// Why the last attempt failed.
        last_failure: String,
    },
    /// The producer's runtime was shut down before the record was settled.
    #[error(
        "the producer stopped before the record was settled, {outcome}: close the producer before the runtime"
    )]
    Stopped {
        /// What is known.
        outcome: Outcome,
    },
}

impl DeliveryError {
    /// What is known of the record.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Refused { .. } => Outcome::NotStored,
            Self::TimedOut { outcome, .. } | Self::Stopped { outcome } => *outcome,
            Self::OutcomeUnknown { .. } => Outcome::Unknown,
        }
    }
}

/// Why a consumer does not go on. Leader changes and broken connections are not among the reasons: they are
/// followed for as long as it takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeError {
    /// The wanted offset is not there (any more).
    #[error(
        "topic `{topic}` partition {partition} has no offset {asked}: it has {start} up to {high_watermark} (exclusive); \
         start within that range"
    )]
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// What was wanted.
        asked: Offset,
        /// The first that is there.
        start: Offset,
        /// The one after the last that is there.
        high_watermark: Offset,
    },
    /// No broker knows the partition.
    #[error(
        "topic `{topic}` partition {partition} does not exist, all brokers say for {waited:?}: create it first"
    )]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// How long was tried.
        waited: Duration,
    },
    /// What arrived is not what was written.
    #[error(
        "topic `{topic}` partition {partition}: the batch at or after offset {offset} is damaged ({reason}): nothing of \
         it was handed out; look at the broker's log, or seek past it"
    )]
    Corrupt {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// Where reading stands.
        offset: Offset,
        /// What is wrong.
        reason: String,
    },
    /// The broker will not serve it.
    #[error("topic `{topic}` partition {partition} cannot be read: {refusal}")]
    Refused {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// The broker's words.
        refusal: Refusal,
    },
    /// The partition is not among those assigned.
    #[error("topic `{topic}` partition {partition} is not assigned to this consumer: assign it first")]
    NotAssigned {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
    },
}

/// Why a member of a group does not go on. A coordinator that moves, or that cannot be reached for a while, is not
/// among the reasons.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupConsumeError {
    /// One of its partitions cannot be read. The others go on with the next call.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// The group does not take it.
    #[error("cannot be in group `{group}`: {refusal}")]
    Refused {
        /// The group.
        group: String,
        /// The broker's words.
        refusal: Refusal,
    },
    /// Where to go on could not be found out. The next call tries again.
    #[error("where group `{group}` stands is not known: {error}")]
    Offsets {
        /// The group.
        group: String,
        /// What came of asking.
        error: AdminError,
    },
    /// The consumer's runtime was shut down.
    #[error("the consumer of group `{group}` stopped: close it before the runtime")]
    Stopped {
        /// The group.
        group: String,
    },
}

/// Why offsets were not committed. What is not committed is read again by whoever gets the partition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The consumer is not in the group at the moment: it has lost its partitions, perhaps to others.
    #[error(
        "group `{group}` has put this consumer out (it was silent, or kept partitions, for too long), so nothing was \
         committed: what was read since the last commit will be read again; go on with `next` to join again"
    )]
    NotAMember {
        /// The group.
        group: String,
    },
    /// The coordinator refused, or did not answer in time.
    #[error(transparent)]
    Failed(#[from] AdminError),
    /// The consumer's runtime was shut down.
    #[error("the consumer of group `{group}` stopped: close it before the runtime")]
    Stopped {
        /// The group.
        group: String,
    },
}

/// Why an administrative question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// The cluster says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No broker could do it in time.
    #[error(
        "{question}: not done within {waited:?} ({last_failure}); whether it will be is unknown, ask again"
    )]
    TimedOut {
        /// What was asked.
        question: String,
        /// How long was tried.
        waited: Duration,
        /// The last thing that went wrong.
        last_failure: String,
    },
    /// The node did not say how it is.
    #[error("node {node} does not answer ({reason}): look whether its process runs and can be reached")]
    NodeSilent {
        /// Which was asked.
        node: u32,
        /// What came instead.
        reason: String,
    },
    /// The cluster has no such node.
    #[error("the cluster has no node {asked}: its nodes are {known:?}")]
    UnknownNode {
        /// Which was asked for.
        asked: u32,
        /// All there are.
        known: Vec<u32>,
    },
}

impl AdminError {
    /// The code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            Self::TimedOut { .. } | Self::NodeSilent { .. } | Self::UnknownNode { .. } => None,
        }
    }
}
