//! Records: what a producer sends and what a consumer gets.

use bytes::Bytes;
use raftline_proto::api::Durability;
use raftline_proto::ids::{NodeId, Offset, PartitionIndex, Term};
use raftline_proto::time::Timestamp;
use std::fmt;
use std::sync::Arc;

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Which of its partitions.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// The partition of this topic.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, partition: PartitionIndex) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.topic, self.partition)
    }
}

/// A name and a value beside a record. Names may repeat; the order is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: String,
    /// The value, if any.
    pub value: Option<Bytes>,
}

/// A record to send.
///
/// ```
/// use raftline_client::Record;
/// let record = Record::to("orders").key("customer-7").value(r#"{"total": 12}"#).header("source", "shop");
/// assert_eq!(record.key.as_deref(), Some(&b"customer-7"[..]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The topic. Cheap to clone: make it once.
    pub topic: Arc<str>,
    /// The partition; `None`: by the key, or, without a key, in turns.
    pub partition: Option<PartitionIndex>,
    /// The key, if any. Records of one key stay in one partition, and so in order.
    pub key: Option<Bytes>,
    /// The value; `None` is Kafka's tombstone.
    pub value: Option<Bytes>,
    /// Beside it.
    pub headers: Vec<Header>,
    /// When it happened; `None`: the time of sending.
    pub timestamp: Option<Timestamp>,
    /// When it counts as delivered; `None`: as the producer is configured.
    pub durability: Option<Durability>,
}

impl Record {
    /// An empty record to a topic.
    #[must_use]
    pub fn to(topic: impl Into<Arc<str>>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
            durability: None,
        }
    }

    /// With this partition.
    #[must_use]
    pub fn partition(mut self, partition: PartitionIndex) -> Self {
        self.partition = Some(partition);
        self
    }

    /// With this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With this value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// With one header more.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header { name: name.into(), value: Some(value.into()) });
        self
    }

    /// With this timestamp.
    #[must_use]
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// With this durability instead of the producer's. A batch holds records of one level only.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }
}

/// Where an acknowledged record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The partition it went to.
    pub partition: PartitionIndex,
    /// Its offset for ever.
    pub offset: Offset,
    /// The leader's term.
    pub term: Term,
    /// The replicas known to have it on stable storage when it was acknowledged.
    pub durable_on: Arc<[NodeId]>,
    /// It had been stored by an earlier attempt whose answer was lost.
    pub duplicate: bool,
}

/// A record as it was read. Key, value and headers are slices of the received message: keep one, and you keep the
/// message (at most some MiB); copy it if you keep few of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionIndex,
    /// The record's place in the partition.
    pub offset: Offset,
    /// As the producer set it.
    pub timestamp: Timestamp,
    /// The key, if any.
    pub key: Option<Bytes>,
    /// The value; `None` is Kafka's tombstone.
    pub value: Option<Bytes>,
    /// In the producer's order.
    pub headers: Vec<Header>,
}
