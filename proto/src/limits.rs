//! The bounds that both ends of a wire and every file must agree on. Bounds of one crate's own queues stand in
//! that crate's `limits.rs`.

/// The largest payload of one entry, and so the largest record batch: 16 MiB.
pub const ENTRY_PAYLOAD_BYTES_MAX: u32 = 16 << 20;

/// The largest batch a topic may be configured to take (`max.message.bytes`); the default is 1 MiB.
pub const BATCH_BYTES_MAX: u32 = ENTRY_PAYLOAD_BYTES_MAX;

/// The largest record count in one batch.
pub const BATCH_RECORDS_MAX: u32 = 1 << 20;

/// What a compressed batch may unpack to: 64 MiB.
pub const BATCH_UNPACKED_BYTES_MAX: usize = 64 << 20;

/// The largest header count of one record.
pub const RECORD_HEADERS_MAX: u32 = 1 << 12;

/// Terms fit Kafka's signed 32-bit leader epoch.
pub const TERM_MAX: u64 = i32::MAX as u64;

/// Voters of one group.
pub const VOTERS_MAX: usize = 9;

/// Replicas of one group, learners included.
pub const REPLICAS_MAX: usize = 16;

/// Kafka's bound on a topic name.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Partitions of one topic.
pub const PARTITIONS_MAX: u32 = 10_000;

/// Config entries of one topic.
pub const TOPIC_CONFIGS_MAX: usize = 64;

/// A config value, a host name, a cluster name.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Kafka listeners of one broker.
pub const KAFKA_LISTENERS_MAX: usize = 16;

/// Brokers of one cluster.
pub const BROKERS_MAX: usize = 1024;

/// Metadata records of one coordinator entry.
pub const METADATA_RECORDS_MAX: usize = 20_000;

/// Idempotent producers remembered per partition. The one whose last committed batch is oldest in the log makes room:
/// the log alone decides, so every replica forgets the same one.
pub const PRODUCERS_MAX: usize = 2_048;

/// Batches remembered per idempotent producer: what Kafka's clients keep in flight (KIP-98).
pub const BATCHES_REMEMBERED: usize = 5;

/// One message between peers, or between client and broker, all told: 32 MiB.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;

const _: () = assert!(ENTRY_PAYLOAD_BYTES_MAX as usize <= MESSAGE_BYTES_MAX / 2, "two entries fit a message");
const _: () = assert!(BATCH_BYTES_MAX <= ENTRY_PAYLOAD_BYTES_MAX);
