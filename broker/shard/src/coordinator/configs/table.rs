//! The table: every config that a topic has, by name.

use super::ConfigDefault::{ReplicasAwaited, Value};
use super::ConfigKind::{Boolean, Double, Int, List, Long, Text};
use super::Values::{AnyOf, Fraction, Only, Whole, Words};
use super::{ConfigDefault, ConfigKey, ConfigKind, Values};
use raftline_proto::limits::{BATCH_BYTES_MAX, TOPIC_CONFIGS_MAX, VOTERS_MAX};

const fn key(
    name: &'static str,
    kind: ConfigKind,
    default: ConfigDefault,
    values: Values,
    documentation: &'static str,
) -> ConfigKey {
    ConfigKey { name, kind, default, values, documentation }
}

/// A config that has one value here.
const fn only(
    name: &'static str,
    kind: ConfigKind,
    value: &'static str,
    why: &'static str,
    documentation: &'static str,
) -> ConfigKey {
    key(name, kind, Value(value), Only { value, why }, documentation)
}

/// How large a batch may be.
pub(in crate::coordinator) const MAX_MESSAGE_BYTES: ConfigKey = key(
    "max.message.bytes",
    Int,
    Value("1048588"),
    Whole { min: 1, max: BATCH_BYTES_MAX as i64 },
    "The largest record batch that is taken, in bytes as sent (compressed).",
);

/// Whose time records have.
pub(super) const MESSAGE_TIMESTAMP_TYPE: ConfigKey = key(
    "message.timestamp.type",
    Text,
    Value("CreateTime"),
    Words(&["CreateTime", "LogAppendTime"]),
    "Whose time records have: their producer's, or that of the broker when it took their batch.",
);

/// How far ahead a record's time may be.
pub(super) const MESSAGE_TIMESTAMP_AFTER_MAX_MS: ConfigKey = key(
    "message.timestamp.after.max.ms",
    Long,
    Value("9223372036854775807"),
    Whole { min: 0, max: i64::MAX },
    "How many milliseconds a record's time may be ahead of the broker's: a batch with one that is further ahead is refused. Without effect with message.timestamp.type=LogAppendTime.",
);

/// How far back a record's time may be.
pub(super) const MESSAGE_TIMESTAMP_BEFORE_MAX_MS: ConfigKey = key(
    "message.timestamp.before.max.ms",
    Long,
    Value("9223372036854775807"),
    Whole { min: 0, max: i64::MAX },
    "How many milliseconds a record's time may be behind the broker's: a batch with one that is further behind is refused. Without effect with message.timestamp.type=LogAppendTime.",
);

/// What happens to old records.
pub(in crate::coordinator) const CLEANUP_POLICY: ConfigKey = key(
    "cleanup.policy",
    List,
    Value("delete"),
    AnyOf(&["compact", "delete"]),
    "What happens to old records: whole segments are deleted, by retention.ms and retention.bytes (delete), or each key's last record is kept (compact), or both.",
);

/// How long deletions are kept.
pub(super) const DELETE_RETENTION_MS: ConfigKey = key(
    "delete.retention.ms",
    Long,
    Value("86400000"),
    Whole { min: 0, max: i64::MAX },
    "How many milliseconds the deletions of a compacted topic are kept after they were compacted first: records with a key and no value. Without effect on other topics.",
);

/// How much of a log is left uncompacted.
pub(super) const MIN_CLEANABLE_DIRTY_RATIO: ConfigKey = key(
    "min.cleanable.dirty.ratio",
    Double,
    Value("0.5"),
    Fraction,
    "A compacted topic is compacted once this part of a partition's bytes is uncompacted. Without effect on other topics.",
);

/// The greatest age of what is not compacted.
pub(super) const MAX_COMPACTION_LAG_MS: ConfigKey = key(
    "max.compaction.lag.ms",
    Long,
    Value("9223372036854775807"),
    Whole { min: 1, max: i64::MAX },
    "A compacted topic is compacted once a record has been left uncompacted for so many milliseconds by its own time, whatever the part. Without effect on other topics.",
);

/// The least age of what is compacted.
pub(super) const MIN_COMPACTION_LAG_MS: ConfigKey = key(
    "min.compaction.lag.ms",
    Long,
    Value("0"),
    Whole { min: 0, max: i64::MAX },
    "How many milliseconds a record of a compacted topic stays as it is after it was committed. Without effect on other topics.",
);

/// How many replicas `acks=all` waits for.
pub(super) const MIN_INSYNC_REPLICAS: ConfigKey = key(
    "min.insync.replicas",
    Int,
    ReplicasAwaited,
    Whole { min: 1, max: VOTERS_MAX as i64 },
    "How many replicas have a record at least when acks=all is answered. It is a majority, or one where raftline.durability is leader or none: any value up to that is kept, a larger one is refused.",
);

/// What `acks=all` means.
pub(super) const RAFTLINE_DURABILITY: ConfigKey = key(
    "raftline.durability",
    Text,
    Value("quorum"),
    Words(&["quorum", "memory", "leader", "none"]),
    "When a Kafka producer's acks=all is answered: once a majority has the records on stable storage (quorum) or in memory (memory), once the leader has them on stable storage (leader), or as soon as they have an offset (none).",
);

/// How much is kept.
pub(super) const RETENTION_BYTES: ConfigKey = key(
    "retention.bytes",
    Long,
    Value("-1"),
    Whole { min: -1, max: i64::MAX },
    "The oldest segments of a partition are deleted while more than this many bytes would be left; -1 sets no bound.",
);

/// How long records are kept.
pub(super) const RETENTION_MS: ConfigKey = key(
    "retention.ms",
    Long,
    Value("604800000"),
    Whole { min: -1, max: i64::MAX },
    "Whole segments whose newest record is older than this many milliseconds are deleted; -1 keeps them for ever.",
);

/// How large a segment grows.
pub(super) const SEGMENT_BYTES: ConfigKey = key(
    "segment.bytes",
    Int,
    Value("67108864"),
    Whole { min: 4096, max: 1 << 30 },
    "A segment of a partition's log is sealed once it has this many bytes. Retention deletes whole segments.",
);

/// How much time a segment covers.
pub(super) const SEGMENT_MS: ConfigKey = key(
    "segment.ms",
    Long,
    Value("604800000"),
    Whole { min: 1, max: i64::MAX },
    "A segment is sealed before a batch that is more than this many milliseconds younger than the segment's first one, by the records' own times.",
);

/// All of them, by name.
pub const CONFIG_KEYS: [ConfigKey; 29] = [
    CLEANUP_POLICY,
    key(
        "compression.type",
        Text,
        Value("producer"),
        Words(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        "Kept, without effect: batches are stored as their producers packed them.",
    ),
    DELETE_RETENTION_MS,
    key(
        "file.delete.delay.ms",
        Long,
        Value("60000"),
        Whole { min: 0, max: i64::MAX },
        "Kept, without effect: a deleted segment's file goes at once.",
    ),
    key(
        "flush.messages",
        Long,
        Value("1"),
        Whole { min: 1, max: i64::MAX },
        "After how many records the log is synced at the latest. Every write is followed by a sync at once, which keeps any value.",
    ),
    key(
        "flush.ms",
        Long,
        Value("0"),
        Whole { min: 0, max: i64::MAX },
        "After how many milliseconds the log is synced at the latest. Every write is followed by a sync at once, which keeps any value.",
    ),
    only(
        "follower.replication.throttled.replicas",
        List,
        "",
        "replication is not throttled",
        "Replicas whose replication is throttled on their followers: none.",
    ),
    key(
        "index.interval.bytes",
        Int,
        Value("4096"),
        Whole { min: 0, max: i32::MAX as i64 },
        "Kept, without effect: the index has a point each 16 KiB.",
    ),
    only(
        "leader.replication.throttled.replicas",
        List,
        "",
        "replication is not throttled",
        "Replicas whose replication is throttled on their leaders: none.",
    ),
    only(
        "local.retention.bytes",
        Long,
        "-2",
        "there is no remote storage, so that everything is local",
        "How much is kept locally: -2 is all that retention.bytes says.",
    ),
    only(
        "local.retention.ms",
        Long,
        "-2",
        "there is no remote storage, so that everything is local",
        "How long records are kept locally: -2 is as long as retention.ms says.",
    ),
    MAX_COMPACTION_LAG_MS,
    MAX_MESSAGE_BYTES,
    MESSAGE_TIMESTAMP_AFTER_MAX_MS,
    MESSAGE_TIMESTAMP_BEFORE_MAX_MS,
    MESSAGE_TIMESTAMP_TYPE,
    MIN_CLEANABLE_DIRTY_RATIO,
    MIN_COMPACTION_LAG_MS,
    MIN_INSYNC_REPLICAS,
    key(
        "preallocate",
        Boolean,
        Value("false"),
        Words(&["false", "true"]),
        "Kept, without effect: room for a segment is always made ahead of the writes, in steps.",
    ),
    RAFTLINE_DURABILITY,
    only(
        "remote.storage.enable",
        Boolean,
        "false",
        "there is no remote storage",
        "Whether old segments go to remote storage: never.",
    ),
    RETENTION_BYTES,
    RETENTION_MS,
    SEGMENT_BYTES,
    key(
        "segment.index.bytes",
        Int,
        Value("10485760"),
        Whole { min: 4, max: i32::MAX as i64 },
        "Kept, without effect: the index is in memory and has no file.",
    ),
    key(
        "segment.jitter.ms",
        Long,
        Value("0"),
        Whole { min: 0, max: i64::MAX },
        "Kept, without effect: segments are sealed without jitter.",
    ),
    SEGMENT_MS,
    only(
        "unclean.leader.election.enable",
        Boolean,
        "false",
        "only a replica with every committed record can lead",
        "Whether a replica that lacks committed records may lead: never.",
    ),
];

/// Kafka's topic configs that no value makes true here, and why.
pub const REFUSED: [(&str, &str); 5] = [
    ("compression.gzip.level", NEVER_REPACKED),
    ("compression.lz4.level", NEVER_REPACKED),
    ("compression.zstd.level", NEVER_REPACKED),
    ("remote.log.copy.disable", "there is no remote storage; leave it out"),
    ("remote.log.delete.on.disable", "there is no remote storage; leave it out"),
];

const NEVER_REPACKED: &str = "batches are stored as their producers packed them; leave it out";

// A client that sends back all that it was told is not over the bound.
const _: () = assert!(CONFIG_KEYS.len() <= TOPIC_CONFIGS_MAX);
