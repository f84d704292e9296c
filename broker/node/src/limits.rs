//! The bounds of this process's own queues. What both ends of a wire must agree on stands in `raftline_proto::limits`.

use std::time::Duration;

/// Slots of a shard's inbox ring. A power of two, at least 64.
pub const INBOX_SLOTS: usize = 4096;

/// How many of them may be taken at once by anybody. Less than the ring, so that a publish never finds it full.
pub const INBOX_QUEUED_MAX: usize = INBOX_SLOTS - 64;

/// How many of them clients may take: peers' messages still get in when clients have filled their share.
pub const INBOX_QUEUED_BY_CLIENTS_MAX: usize = INBOX_QUEUED_MAX * 3 / 4;

/// Payload bytes waiting in a shard's inbox. One larger payload is let in alone.
pub const INBOX_BYTES_MAX: usize = 64 << 20;

/// Events handled in one turn of a shard: bounds how long effects wait for company.
pub const TURN_EVENTS_MAX: usize = 512;

/// A parked shard looks again after this even if nobody wakes it. Not needed by the protocol; bounds the harm of a
/// bug in it.
pub const PARK_MAX: Duration = Duration::from_secs(1);

/// Entries in one `Replay` event while a group opens.
pub const REPLAY_ENTRIES_MAX: usize = 4096;

/// Payload bytes read for one `Replay` event.
pub const REPLAY_BYTES_MAX: u64 = 8 << 20;

/// Durable floors and commit hints are written at least this often while they change.
pub const LAZY_FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// A group that nothing was read from or written to for between one and two of these closes its files.
pub const REST_INTERVAL: Duration = Duration::from_secs(60);

/// How long a log that could not be opened for want of a descriptor waits before it is tried again.
pub const SHORTAGE_INTERVAL: Duration = Duration::from_secs(1);

/// Threads that remove files.
pub const REMOVAL_LANES: usize = 1;

/// Threads that sync files, unless configured.
pub const SYNC_LANES: usize = 4;

/// Threads that open logs, which reads all of them: the more, the quicker a start, and the less is left for others.
pub const OPEN_LANES: usize = 2;

/// Compactions at once: each takes disk, memory and a core from the clients.
pub const COMPACTION_LANES: usize = 1;

/// What a compaction remembers of a log's keys at most. More keys take more rounds over the log.
pub const COMPACTION_MEMORY_BYTES: u64 = 16 << 20;

/// The stack of threads that only do I/O.
pub const SMALL_STACK_BYTES: usize = 256 << 10;

/// How often free space is looked at.
pub const DISK_SPACE_INTERVAL: Duration = Duration::from_secs(1);

/// However little is left above the reserve, free space is not looked at more often than after so many bytes.
pub const DISK_LOOK_BYTES_MIN: u64 = 1 << 20;

/// What is kept free on the data directory's disk, unless configured: this much or a twentieth of the disk,
/// whichever is smaller.
pub const DISK_RESERVE_BYTES: u64 = 256 << 20;

/// How long a graceful stop waits for leaderships to be handed over.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages of one turn are coalesced into a batch for a peer up to this size; a larger message goes alone.
pub const PEER_BATCH_BYTES: u64 = 1 << 20;

/// Appends waiting for one peer's socket: how far a slow peer may lag behind before its groups wait.
pub const PEER_BULK_BYTES_MAX: u64 = 32 << 20;

/// Votes, replies and signs of life waiting for one peer's socket.
pub const PEER_CONTROL_BYTES_MAX: u64 = 4 << 20;

/// What a message counts for beside its entries.
pub const PEER_MESSAGE_OVERHEAD_BYTES: u64 = 128;

/// How long connecting to a peer, or its answer to a hello, may take.
pub const PEER_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// The first wait before a peer is dialled again; doubles up to [`PEER_BACKOFF_MAX`].
pub const PEER_BACKOFF_MIN: Duration = Duration::from_millis(50);

/// The longest wait before a peer is dialled again.
pub const PEER_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// A connection without an answer to a ping for this long is given up: the network may have swallowed it.
pub const PEER_PING_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a quiet connection is pinged.
pub const PEER_PING_INTERVAL: Duration = Duration::from_secs(2);

/// A node that was refused for what it is, and let in by nobody for this long, stops.
pub const PEER_REFUSED_GRACE: Duration = Duration::from_secs(2);

/// HTTP/2 window of one stream: a batch of the largest size fits twice.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 16 << 20;

/// HTTP/2 window of one connection.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// HTTP/2 frame size.
pub const HTTP2_FRAME_BYTES: u32 = 1 << 20;

/// Requests of one produce stream that may wait for their quorum; the stream is not read on beyond it.
pub const PRODUCE_IN_FLIGHT_MAX: usize = 4096;

/// KiB of batches that may wait for their quorum, all produce streams of the process together.
pub const PRODUCE_KIBIBYTES_MAX: usize = 128 << 10;

/// How long a produce waits for its quorum, unless it says.
pub const PRODUCE_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest that a produce may ask to wait.
pub const PRODUCE_TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// What a fetch gets at most, unless it says.
pub const FETCH_BYTES: u64 = 1 << 20;

/// The most that a fetch may ask for. A single batch may still be larger.
pub const FETCH_BYTES_MAX: u64 = 8 << 20;

/// Bytes read for fetches and peers that are in memory until their sockets have taken them. Beyond it a fetch gets one
/// batch a partition.
pub const READ_BYTES_HELD_MAX: u64 = 512 << 20;

/// How much of the logs the scrub reads in each [`SCRUB_INTERVAL`]: 2.5 MiB a second.
pub const SCRUB_STEP_BYTES: u64 = 256 << 10;

/// How many files it opens in each interval at most.
pub const SCRUB_STEP_FILES: usize = 16;

/// See [`SCRUB_STEP_BYTES`].
pub const SCRUB_INTERVAL: Duration = Duration::from_millis(100);

/// How long the scrub rests between two passes over all logs.
pub const SCRUB_REST: Duration = Duration::from_secs(600);

/// KiB of records copied for replies that are not encoded yet, all fetches of the process together.
pub const FETCH_KIBIBYTES_MAX: usize = 128 << 10;

/// The longest that a fetch may ask to wait.
pub const FETCH_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a subscription waits in the shard for records before it asks again: what a vanished client may leave
/// behind there.
pub const SUBSCRIBE_WAIT: Duration = Duration::from_secs(10);

/// Topics named in one metadata request.
pub const METADATA_TOPICS_MAX: usize = 1000;

/// Replicas described in one status answer.
pub const STATUS_GROUPS_MAX: usize = 10_000;

/// How long the answer to a change of metadata waits for the brokers that answer to have applied it. Longer than it takes to
/// find out that one does not answer any more.
pub const APPLIED_WAIT: Duration = Duration::from_secs(2);

/// How long a change of metadata waits for its commit.
pub const COORDINATE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the creation of a topic waits for brokers that have not registered yet.
pub const REGISTRATION_WAIT: Duration = Duration::from_secs(5);

/// How long a broker looks for a leader to pass a request on to.
pub const FORWARD_LEADER_WAIT: Duration = Duration::from_secs(3);

/// How long a request that is passed on may take, all told.
pub const FORWARD_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests of one Kafka connection that are taken and not yet answered. Kafka's clients keep five.
pub const KAFKA_PIPELINE_MAX: usize = 64;

/// KiB of Kafka requests larger than a small buffer that are being received or served, all connections together. Fits
/// the largest request twice.
pub const KAFKA_FRAME_KIBIBYTES_MAX: usize = 256 << 10;

/// How long a gRPC client that came to a Kafka port may take to read that it is wrong there.
pub const WRONG_DOOR_WAIT: Duration = Duration::from_secs(1);

/// Clients at the wrong port try again and again: of each port one line in this time.
pub const WRONG_DOOR_LINE_EVERY: Duration = Duration::from_secs(60);

/// A Kafka request that was begun and of which nothing more comes for this long ends its connection.
pub const KAFKA_FRAME_TIMEOUT: Duration = Duration::from_secs(60);

/// A Kafka client that reads nothing of an answer for this long is gone.
pub const KAFKA_WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Log lines a second about Kafka connections that had to be closed: whoever sends garbage is not to fill the disk.
pub const KAFKA_CLOSE_LINES_PER_SECOND: u32 = 10;

/// The least that a Kafka produce waits for its quorum: some clients send no timeout.
pub const KAFKA_PRODUCE_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// Batches up to this size are copied out of their request, so that a small batch does not keep a large one in memory.
pub const KAFKA_COPIED_BATCH_BYTES: usize = 4 << 10;

/// What one Kafka fetch is given at most, over all partitions, whatever it asks for. A single batch may be larger.
pub const KAFKA_FETCH_BYTES_MAX: u64 = 64 << 20;

/// Fetch sessions at once, of all Kafka connections together. As Kafka's `max.incremental.fetch.session.cache.slots`.
pub const KAFKA_SESSIONS_MAX: usize = 1000;

/// Fetch sessions that one connection began: consumers have one. A further one takes the oldest one's place.
pub const KAFKA_SESSIONS_PER_CONNECTION_MAX: usize = 4;

/// What one fetch session may take in memory: some ten thousand partitions. Larger fetches have no session.
pub const KAFKA_SESSION_BYTES_MAX: usize = 4 << 20;

/// What all fetch sessions together may take in memory.
pub const KAFKA_SESSIONS_BYTES_MAX: usize = 64 << 20;

/// A fetch session that was not used for this long gives its place to a new one; one that is older than this, to a
/// larger one. As in Kafka.
pub const KAFKA_SESSION_REST: Duration = Duration::from_secs(120);

/// Partitions of the internal topic that holds consumer groups: over so many leaders they are spread.
pub const GROUP_PARTITIONS: u32 = 16;

/// Requests that wait for one group coordinator. Beyond: `COORDINATOR_LOAD_IN_PROGRESS`.
pub const GROUP_REQUESTS_MAX: usize = 4096;

/// A group coordinator that could not go on begins anew after this.
pub const GROUP_RESTART_PAUSE: Duration = Duration::from_millis(200);

/// How often a new group coordinator looks whether its log is committed.
pub const GROUP_LOAD_PAUSE: Duration = Duration::from_millis(5);

/// What a new group coordinator reads of its log at once.
pub const GROUP_LOAD_BYTES: u64 = 4 << 20;

/// Connections to the listener at once, peers' and clients'; further ones are closed.
pub const CONNECTIONS_MAX: usize = 2048;

/// How long the listener rests when no connection can be accepted (no descriptors).
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// HTTP/2 streams of one connection at once.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 256;

/// Threads for the few calls from sockets that block on the disk (identities).
pub const BLOCKING_THREADS_MAX: usize = 8;

/// How often a quiet client's connection is pinged.
pub const SERVER_PING_INTERVAL: Duration = Duration::from_secs(10);

/// A client that does not answer a ping for this long is gone.
pub const SERVER_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// News that may wait for the pulse's thread.
pub const PULSE_NEWS_MAX: usize = 16_384;

/// How long a client of the native API waits for a leader that does not know yet how much is committed.
pub const NEW_LEADER_WAIT: Duration = Duration::from_secs(10);

/// A shard's turn that takes this long is logged.
pub const SLOW_TURN: Duration = Duration::from_millis(500);

/// A sync that takes this long is logged.
pub const SLOW_SYNC: Duration = Duration::from_secs(1);

/// What a stop waits beyond the shards' own limit for handing leadership over, for their last word.
pub const DRAIN_SLACK: Duration = Duration::from_millis(500);

/// How long open connections may take to end when the process stops.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

const _: () = assert!(INBOX_SLOTS.is_power_of_two() && INBOX_SLOTS >= 64);
const _: () = assert!(INBOX_QUEUED_BY_CLIENTS_MAX < INBOX_QUEUED_MAX && INBOX_QUEUED_MAX < INBOX_SLOTS);
const _: () = assert!(KAFKA_SESSION_BYTES_MAX <= KAFKA_SESSIONS_BYTES_MAX);
const _: () = assert!(INBOX_BYTES_MAX >= raftline_proto::limits::MESSAGE_BYTES_MAX);
