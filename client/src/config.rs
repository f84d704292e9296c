//! What can be set, with defaults that are safe first and fast second.

use crate::consumer::StartAt;
use std::time::Duration;

pub use raftline_proto::api::Durability;
pub use raftline_proto::batch::Codec as Compression;

/// How a [`crate::Client`] reaches its brokers.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// How long dialling one broker may take.
    pub connect_timeout: Duration,
    /// How long an administrative question may take, retries included; also how long a producer or consumer
    /// waits for metadata of a topic that is not there yet.
    pub request_timeout: Duration,
    /// The first pause after a failure; doubled with every further one, a third of it drawn at random.
    pub backoff_min: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(30),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_millis(100),
        }
    }
}

/// Whether brokers recognise a retry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idempotence {
    /// Every record is stored once and in order, retries notwithstanding (KIP-98).
    #[default]
    On,
    /// Nothing is retried whose outcome is unknown, and a retry may overtake later batches.
    Off,
}

/// What happens to a topic that does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingTopic {
    /// Sending fails.
    #[default]
    Refuse,
    /// The broker is asked to make it, if its configuration allows that.
    Create,
}

/// How a [`crate::Producer`] batches, bounds and retries.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// When a record counts as delivered; a record may ask for another level.
    pub durability: Durability,
    /// How batches are packed.
    pub compression: Compression,
    /// A batch is closed at this size (before compression). Never over the topic's `max.message.bytes`.
    pub batch_bytes: usize,
    /// How long a batch waits for company. Zero: it leaves as soon as one of the partition's slots in flight is
    /// free, with whatever has gathered by then.
    pub linger: Duration,
    /// Records handed over and not yet settled, in bytes: above it, sending waits.
    pub in_flight_bytes: usize,
    /// Batches of one partition under way at once, 1 to 5.
    pub in_flight_batches: usize,
    /// From hand-over to the last attempt. Afterwards the ticket fails and says what is known of the outcome.
    pub delivery_timeout: Duration,
    /// Whether brokers recognise a retry.
    pub idempotence: Idempotence,
    /// What happens to a topic that does not exist.
    pub missing_topic: MissingTopic,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Quorum,
            compression: Compression::None,
            batch_bytes: 256 << 10,
            linger: Duration::ZERO,
            in_flight_bytes: 32 << 20,
            in_flight_batches: crate::limits::BATCHES_IN_FLIGHT_MAX,
            delivery_timeout: Duration::from_secs(120),
            idempotence: Idempotence::On,
            missing_topic: MissingTopic::Refuse,
        }
    }
}

/// What a consumer does when the offset that it wants is not there (any more).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRange {
    /// [`crate::ConsumeError::OffsetOutOfRange`], which names what is there.
    #[default]
    Fail,
    /// Go on with the first record that is there.
    Start,
    /// Go on with what comes next.
    End,
}

/// How a [`crate::Consumer`] reads ahead.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Bytes received and not yet handed out, over all partitions. One message of each partition may come on top,
    /// and what the broker has pushed into the connection's window (8 MiB a broker).
    pub prefetch_bytes: usize,
    /// What to do when the wanted offset is not there.
    pub out_of_range: OutOfRange,
    /// How long a partition may be unknown to all brokers before [`crate::ConsumeError::UnknownPartition`].
    pub unknown_timeout: Duration,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            prefetch_bytes: 16 << 20,
            out_of_range: OutOfRange::Fail,
            unknown_timeout: Duration::from_secs(10),
        }
    }
}

/// Who commits how far a group has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCommit {
    /// The consumer: this often, when a partition goes to another member, and when it is closed. A record counts as
    /// read once the next one is asked for.
    Every(Duration),
    /// Only [`crate::GroupConsumer::commit`] does.
    Never,
}

/// Who in a group gets which partitions: the brokers decide, by this rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assignor {
    /// Evenly over all topics, moving as few partitions as possible.
    #[default]
    Uniform,
    /// Neighbours topic by topic: equal numbers of several topics go to the same member.
    Range,
}

/// How a [`crate::GroupConsumer`] lives in its group.
#[derive(Clone, Debug)]
pub struct GroupConsumerConfig {
    /// How it reads its partitions.
    pub consumer: ConsumerConfig,
    /// Where a partition begins of which the group has no committed offset.
    pub start: StartAt,
    /// Who commits.
    pub auto_commit: AutoCommit,
    /// The longest time between two calls of [`crate::GroupConsumer::next`] while partitions move between members:
    /// one that does not give up in time what it has to is put out of the group.
    pub rebalance_timeout: Duration,
    /// The longest time between two heartbeats, should the brokers want fewer: how soon partitions move.
    pub heartbeat_interval_max: Duration,
    /// By which rule partitions are shared. Where members differ, most of them decide.
    pub assignor: Assignor,
    /// Shown to whoever describes the group.
    pub client_id: String,
}

impl Default for GroupConsumerConfig {
    fn default() -> Self {
        Self {
            consumer: ConsumerConfig::default(),
            start: StartAt::Start,
            auto_commit: AutoCommit::Every(Duration::from_secs(5)),
            rebalance_timeout: Duration::from_secs(5 * 60),
            heartbeat_interval_max: Duration::from_secs(3),
            assignor: Assignor::Uniform,
            client_id: "raftline".to_owned(),
        }
    }
}
