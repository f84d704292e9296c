//! The client's own bounds. Those shared with the broker stand in [`raftline_proto::limits`].

use std::time::Duration;

/// HTTP/2 window of one stream (MEASURED: the default of 64 KiB halves the throughput).
pub(crate) const STREAM_WINDOW_BYTES: u32 = 16 << 20;

/// HTTP/2 window of one connection, all streams together.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// Window of one subscription: what a broker may push ahead of a consumer that does not read.
pub(crate) const SUBSCRIPTION_WINDOW_BYTES: u32 = 1 << 20;

/// Window of a consumer's connection.
pub(crate) const CONSUMER_WINDOW_BYTES: u32 = 8 << 20;

/// The bytes that one subscription message is asked to hold at most.
pub(crate) const SUBSCRIPTION_MESSAGE_BYTES: u32 = 1 << 20;

/// Chunks decoded ahead, over all partitions. The bound that counts is the one in bytes.
pub(crate) const CHUNKS_AHEAD_MAX: usize = 1024;

/// A connection on which nothing moves is probed this often while calls are open on it…
pub(crate) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);

/// …and given up after this long without an answer.
pub(crate) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long one broker may take to answer a metadata question.
pub(crate) const METADATA_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one may keep silent before the next is asked beside it.
pub(crate) const METADATA_PATIENCE: Duration = Duration::from_millis(200);

/// How long a description of a group waits for one partition's offsets before it goes without them.
pub(crate) const OFFSET_PATIENCE: Duration = Duration::from_secs(2);

/// Partitions whose offsets are asked for at once.
pub(crate) const OFFSETS_ASKED_AT_ONCE: usize = 16;

/// Partitions of one commit or fetch of offsets, as brokers take them.
pub(crate) const OFFSETS_PER_REQUEST: usize = 10_000;

/// How long a group's member asks for one heartbeat or commit, before it looks whether its session is over.
pub(crate) const GROUP_PATIENCE: Duration = Duration::from_secs(10);

/// How long a member that goes waits to be heard; unheard, its session ends by itself.
pub(crate) const LEAVE_PATIENCE: Duration = Duration::from_secs(3);

/// Words of a group's consumer that its membership has not read yet.
pub(crate) const GROUP_ORDERS_MAX: usize = 16;

/// Kafka's bound on batches in flight for an idempotent producer: brokers remember the last five.
pub(crate) const BATCHES_IN_FLIGHT_MAX: usize = 5;

/// Every record costs at least this much of the bytes in flight, so that empty records are bounded as well.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 64;

/// Keyless records go to one partition until it has got this much (KIP-794).
pub(crate) const STICKY_BYTES: usize = 32 << 10;

/// The broker's default of `max.message.bytes`, where a topic does not set it.
pub(crate) const MESSAGE_BYTES_DEFAULT: usize = 1 << 20;
