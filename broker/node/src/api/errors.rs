//! From the shards' typed refusals to what a client gets: a code for programs, and for people a sentence that names
//! what was asked, what was found and what to do next.

use raftline_proto::api::{Error, ErrorCode};
use raftline_proto::batch::BatchError;
use raftline_proto::ids::NodeId;
use raftline_shard::types::{ConfigFault, CoordinatorError, FetchError, ProduceError};
use std::fmt;

/// A partition, as the request names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: u32,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", shown(self.topic), self.partition)
    }
}

/// A name as a client sent it, fit for a message.
pub(crate) fn shown(name: &str) -> String {
    let escaped: String = name.chars().take(NAME_SHOWN).flat_map(char::escape_default).collect();
    if name.chars().count() > NAME_SHOWN { format!("{escaped}…") } else { escaped }
}

/// An error without further fields.
pub(crate) fn error(code: ErrorCode, message: impl Into<String>) -> Error {
    Error { code: code.into(), message: message.into(), ..Error::default() }
}

pub(crate) fn unknown_topic(name: &str) -> Error {
    error(
        ErrorCode::UnknownTopicOrPartition,
        format!(
            "there is no topic `{}`: create it, or check its spelling with `raftline topic list`",
            shown(name)
        ),
    )
}

pub(crate) fn internal_topic(name: &str, reason: &str) -> Error {
    error(ErrorCode::InternalTopic, format!("`{}` is an internal topic: {reason}", shown(name)))
}

pub(crate) fn unknown_partition(place: Place<'_>, partitions: usize) -> Error {
    error(
        ErrorCode::UnknownTopicOrPartition,
        format!(
            "topic `{}` has partitions 0 to {}, there is no partition {}",
            shown(place.topic),
            partitions.saturating_sub(1),
            place.partition
        ),
    )
}

pub(crate) fn not_leader(what: impl fmt::Display, leader: Option<NodeId>) -> Error {
    let message = match leader {
        Some(leader) => format!("{what} is led by node {leader}, not by this one: ask there"),
        None => format!("{what} has no leader that this node knows of: try again in a moment"),
    };
    let leader_node = leader.map(|node| node.0);
    Error { leader_node, ..error(ErrorCode::NotLeader, message) }
}

pub(crate) fn busy() -> Error {
    error(
        ErrorCode::Busy,
        "the broker has as much waiting as it allows; nothing was done: try again in a moment",
    )
}

pub(crate) fn stopping() -> Error {
    error(
        ErrorCode::Stopping,
        "the broker is stopping; nothing was done: ask for metadata and try the new leader",
    )
}

pub(crate) fn unexpected(found: &impl fmt::Debug) -> Error {
    error(
        ErrorCode::StorageError,
        format!("the broker gave itself an answer that it did not expect: {found:?}"),
    )
}

pub(crate) fn batch(place: Place<'_>, found: &BatchError) -> Error {
    let code = match found {
        BatchError::Crc { .. } => ErrorCode::CorruptBatch,
        BatchError::TooLarge { .. } => ErrorCode::BatchTooLarge,
        _ => ErrorCode::InvalidBatch,
    };
    error(code, format!("the batch for {place} was not taken: {found}"))
}

pub(crate) fn produce(place: Place<'_>, found: &ProduceError) -> Error {
    match found {
        ProduceError::UnknownGroup => not_leader(place, None),
        ProduceError::NotLeader { leader, .. } => not_leader(place, *leader),
        ProduceError::LeadershipLost { leader } => {
            let message = format!(
                "this node lost the leadership of {place} before a majority answered; whether the batch is there is \
                 unknown: an idempotent producer may send it again"
            );
            let leader_node = leader.map(|node| node.0);
            Error { leader_node, ..error(ErrorCode::LeadershipLost, message) }
        }
        ProduceError::TimedOut => error(
            ErrorCode::TimedOut,
            format!(
                "no majority of {place}'s replicas answered in time; whether the batch is there is unknown: an \
                 idempotent producer may send it again"
            ),
        ),
        ProduceError::Busy => busy(),
        ProduceError::DiskFull { free_bytes, reserve_bytes } => error(
            ErrorCode::DiskFull,
            format!(
                "the disk of {place}'s leader has {free_bytes} bytes free and keeps {reserve_bytes} in reserve; the \
                 batch was not taken: make room (retention, topics, the disk), then try again"
            ),
        ),
        ProduceError::TooLarge { batch_bytes, bytes_max } => error(
            ErrorCode::BatchTooLarge,
            format!(
                "a batch of {batch_bytes} bytes is over the {bytes_max} that {place} takes: send smaller batches, or \
                 raise the topic's max.message.bytes"
            ),
        ),
        ProduceError::OutOfOrderSequence { expected, found } => error(
            ErrorCode::OutOfOrderSequence,
            format!(
                "{place} expected sequence {expected} of this producer and got {found}: a batch before it is missing, \
                 or it is older than the last five"
            ),
        ),
        ProduceError::ProducerFenced { current, found } => error(
            ErrorCode::ProducerFenced,
            format!(
                "{place} knows epoch {current} of this producer, the batch has {found}: a later instance took over"
            ),
        ),
        ProduceError::Stopping => stopping(),
    }
}

pub(crate) fn fetch(place: Place<'_>, found: &FetchError) -> Error {
    match found {
        FetchError::UnknownGroup => not_leader(place, None),
        FetchError::NotLeader { leader, .. } => not_leader(place, *leader),
        FetchError::OffsetOutOfRange { asked, start_offset, high_watermark } => Error {
            start_offset: Some(start_offset.0),
            high_watermark: Some(high_watermark.0),
            ..error(
                ErrorCode::OffsetOutOfRange,
                format!(
                    "{place} has offsets {start_offset} up to {high_watermark}, there is no {asked} to read from"
                ),
            )
        },
        FetchError::NotYet => error(
            ErrorCode::Busy,
            format!("{place} has a new leader, which does not know yet how much is committed: ask again"),
        ),
        FetchError::UnknownTerm { asked, term } => error(
            ErrorCode::InvalidRequest,
            format!("{place} is in term {term}: there is no term {asked} yet"),
        ),
        FetchError::Busy => busy(),
        FetchError::Storage(reason) => {
            error(ErrorCode::StorageError, format!("{place} cannot be read on this node: {reason}"))
        }
    }
}

pub(crate) fn coordinator(found: &CoordinatorError) -> Error {
    match found {
        CoordinatorError::NotLeader { leader } => not_coordinator(*leader),
        CoordinatorError::OutcomeUnknown => outcome_unknown(),
        CoordinatorError::Busy => busy(),
        CoordinatorError::TopicExists { name } => {
            error(ErrorCode::TopicExists, format!("there is a topic `{}` already", shown(name)))
        }
        CoordinatorError::UnknownTopic { name } => unknown_topic(name),
        CoordinatorError::InvalidTopicName { name, reason } => {
            error(ErrorCode::InvalidTopicName, format!("`{}` is no topic name: {reason}", shown(name)))
        }
        CoordinatorError::InternalTopic { name, reason } => internal_topic(name, reason),
        CoordinatorError::InvalidPartitions { asked, min, max } => error(
            ErrorCode::InvalidPartitions,
            format!("{asked} partitions are not possible here: ask for {min} to {max}"),
        ),
        CoordinatorError::InvalidAssignment { why } => {
            error(ErrorCode::InvalidRequest, format!("the replicas cannot be where they are wanted: {why}"))
        }
        CoordinatorError::InvalidReplication { asked, brokers } => error(
            ErrorCode::InvalidReplication,
            format!(
                "{asked} replicas are not possible: {brokers} brokers are registered; ask for 1 to {brokers}"
            ),
        ),
        CoordinatorError::InvalidConfig { name, value, fault } => {
            let name = shown(name);
            // Kafka's own words: people look them up.
            let message = match fault {
                ConfigFault::Unknown => format!("Unknown topic config name: {name}"),
                ConfigFault::Value(why) => {
                    format!("Invalid value {} for configuration {name}: {why}", shown(value))
                }
            };
            error(ErrorCode::InvalidConfig, message)
        }
        CoordinatorError::IncarnationMismatch { node, known, found } => error(
            ErrorCode::InvalidRequest,
            format!(
                "node {node} is registered with the disk {known}, but comes with the disk {found}: its data directory \
                 was emptied or swapped; put the right one back"
            ),
        ),
        CoordinatorError::BrokerFull { node, held, asked, max } => error(
            ErrorCode::LimitExceeded,
            format!(
                "broker {node} can hold {max} replicas, has {held}, and would get {asked}: ask for fewer partitions or \
                 replicas, add brokers, or give it more (its start says what bounds it: descriptors, maps or disk)"
            ),
        ),
        CoordinatorError::LimitExceeded { what, asked, max } => {
            error(ErrorCode::LimitExceeded, format!("{what}: {asked} asked for, at most {max} are possible"))
        }
    }
}

pub(crate) fn not_coordinator(leader: Option<NodeId>) -> Error {
    let message = match leader {
        Some(leader) => format!("the cluster's coordinator is node {leader}, not this one: ask there"),
        None => "the cluster has no coordinator at the moment (no majority of its brokers is up, or an election is \
                 under way): try again in a moment"
            .to_owned(),
    };
    let leader_node = leader.map(|node| node.0);
    Error { leader_node, ..error(ErrorCode::NotCoordinator, message) }
}

pub(crate) fn outcome_unknown() -> Error {
    error(
        ErrorCode::TimedOut,
        "the coordinator did not answer in time; whether the change was made is unknown: look, then try again",
    )
}

/// Longer names are cut in messages.
const NAME_SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use raftline_proto::ids::{Offset, Term};

    const PLACE: Place<'_> = Place { topic: "orders", partition: 3 };

    #[test]
    fn clients_learn_the_leader_and_the_ends() {
        let found = produce(PLACE, &ProduceError::NotLeader { leader: Some(NodeId(2)), term: Term(5) });
        assert_eq!((found.code(), found.leader_node), (ErrorCode::NotLeader, Some(2)));
        assert!(found.message.contains("orders/3 is led by node 2"), "{}", found.message);
        let range = FetchError::OffsetOutOfRange {
            asked: Offset(9),
            start_offset: Offset(1),
            high_watermark: Offset(5),
        };
        let found = fetch(PLACE, &range);
        assert_eq!((found.start_offset, found.high_watermark), (Some(1), Some(5)));
        assert!(found.message.contains("no 9 to read from"), "{}", found.message);
    }

    #[test]
    fn hostile_names_are_shown_harmlessly() {
        let found = unknown_topic("\u{1b}[31m/../\n");
        assert!(!found.message.contains('\u{1b}') && !found.message.contains('\n'), "{}", found.message);
        let found = unknown_topic(&"x".repeat(100_000));
        assert!(found.message.len() < 300);
    }

    #[test]
    fn every_refusal_says_what_to_do_next() {
        let texts = [
            coordinator(&CoordinatorError::InvalidPartitions { asked: 0, min: 1, max: 10 }).message,
            coordinator(&CoordinatorError::InvalidReplication { asked: 5, brokers: 3 }).message,
            produce(PLACE, &ProduceError::DiskFull { free_bytes: 1, reserve_bytes: 2 }).message,
            produce(PLACE, &ProduceError::TooLarge { batch_bytes: 9, bytes_max: 5 }).message,
        ];
        for text in texts {
            assert!(
                text.contains("ask for") || text.contains("make room") || text.contains("raise"),
                "{text}"
            );
        }
    }
}
