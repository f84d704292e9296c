//! Topic configs: Kafka's names, what each takes, what holds by default, and what the broker makes of them.
//!
//! A value is taken only if the topic behaves as it says. So where Kafka knows a config and this broker does one thing
//! anyway, that one value is taken and any other refused with the reason; a value that promises less than is done (how
//! often to sync, how many replicas to wait for) is taken, since it is kept. Every default is a value that is taken, so
//! that a client can read all configs and send them back. Kafka's configs of files that are made otherwise here are kept
//! and told back, and have no effect; their documentation says so.
//!
//! In reading order: this file ([`ConfigKey`], the checks, [`Settings`]), [`table`] (all keys). `docs/topic-configs.md`
//! is the same for people; a test compares them.

pub mod table;

use crate::compaction::RATIO_ONE;
use crate::types::{ConfigFault, CoordinatorError, Durability, LogConfig};
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use raftline_proto::limits::BATCH_BYTES_MAX;
use raftline_proto::time::Timestamp;

pub use table::CONFIG_KEYS;
use table::{
    CLEANUP_POLICY, DELETE_RETENTION_MS, MAX_COMPACTION_LAG_MS, MAX_MESSAGE_BYTES,
    MESSAGE_TIMESTAMP_AFTER_MAX_MS, MESSAGE_TIMESTAMP_BEFORE_MAX_MS, MESSAGE_TIMESTAMP_TYPE,
    MIN_CLEANABLE_DIRTY_RATIO, MIN_COMPACTION_LAG_MS, MIN_INSYNC_REPLICAS, RAFTLINE_DURABILITY, REFUSED,
    RETENTION_BYTES, RETENTION_MS, SEGMENT_BYTES, SEGMENT_MS,
};

/// One topic config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigKey {
    /// Kafka's name; ours begin with `raftline.`.
    pub name: &'static str,
    /// The type that Kafka's tools are told.
    pub kind: ConfigKind,
    /// What holds where a topic says nothing.
    pub default: ConfigDefault,
    /// What is taken.
    pub values: Values,
    /// What it means, for people.
    pub documentation: &'static str,
}

/// The type of a config's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigKind {
    /// `true` or `false`.
    Boolean,
    /// A word.
    Text,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 64 bits.
    Long,
    /// A number with a fraction.
    Double,
    /// Words with commas between them.
    List,
}

/// What holds where a topic says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigDefault {
    /// This value.
    Value(&'static str),
    /// How many replicas have a record when `acks=all` is answered: a majority of the topic's replicas, or one where
    /// `raftline.durability` does not wait for others.
    ReplicasAwaited,
}

/// What values are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Whole numbers from `min` through `max`.
    Whole {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// Numbers from 0 through 1.
    Fraction,
    /// One of these words.
    Words(&'static [&'static str]),
    /// Some of these words, at least one, with commas between them.
    AnyOf(&'static [&'static str]),
    /// This value alone, because the broker does that and nothing else.
    Only {
        /// The value.
        value: &'static str,
        /// Why there is no other.
        why: &'static str,
    },
}

impl ConfigKey {
    /// The key of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        CONFIG_KEYS.iter().find(|key| key.name == name)
    }

    /// What holds for a topic of so many replicas and these other configs, if it does not set this one.
    #[must_use]
    pub fn default_for(&self, configs: &BTreeMap<String, String>, replicas: usize) -> String {
        match self.default {
            ConfigDefault::Value(value) => value.to_owned(),
            ConfigDefault::ReplicasAwaited => replicas_awaited(durability(configs), replicas).to_string(),
        }
    }

    /// Checks a value. Kafka's clients may put blanks around it, and write `true` and `false` as they like.
    ///
    /// # Errors
    /// Says what is wrong and what would be right.
    pub fn check(&self, text: &str) -> Result<(), String> {
        let text = text.trim();
        let (fits, why) = match self.values {
            Values::Whole { min, max } => match text.parse::<i64>() {
                Ok(value) => (min <= value && value <= max, "out of range"),
                Err(_) => (false, "not a whole number"),
            },
            Values::Fraction => match text.parse::<f64>() {
                Ok(value) => ((0.0..=1.0).contains(&value), "out of range"),
                Err(_) => (false, "not a number"),
            },
            Values::Words(words) if self.kind == ConfigKind::Boolean => {
                (words.iter().any(|word| word.eq_ignore_ascii_case(text)), "unknown here")
            }
            Values::Words(words) => (words.contains(&text), "unknown here"),
            Values::AnyOf(words) => {
                (list(text).next().is_some() && list(text).all(|word| words.contains(&word)), "unknown here")
            }
            Values::Only { value, why } => match self.kind {
                ConfigKind::Boolean => (text.eq_ignore_ascii_case(value), why),
                ConfigKind::Text
                | ConfigKind::Int
                | ConfigKind::Long
                | ConfigKind::Double
                | ConfigKind::List => (text == value, why),
            },
        };
        if fits { Ok(()) } else { Err(format!("{why}; it must be {}", self.values.text())) }
    }

    fn whole(&self, configs: &BTreeMap<String, String>) -> Option<i64> {
        self.parsed(configs)
    }

    /// A fraction, in millionths.
    fn millionths(&self, configs: &BTreeMap<String, String>) -> u32 {
        let fraction: f64 = self.parsed(configs).unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to a million")]
        let millionths = (fraction * f64::from(RATIO_ONE)) as u32;
        millionths.min(RATIO_ONE)
    }

    fn parsed<T: core::str::FromStr>(&self, configs: &BTreeMap<String, String>) -> Option<T> {
        let set = configs.get(self.name).filter(|text| self.check(text).is_ok());
        let default = match self.default {
            ConfigDefault::Value(value) => Some(value),
            ConfigDefault::ReplicasAwaited => None,
        };
        set.map(String::as_str).or(default).and_then(|text| text.trim().parse().ok())
    }
}

impl Values {
    /// What is taken, for people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Whole { min: -1, max: i64::MAX } => "-1 (no limit) or more".to_owned(),
            Self::Whole { min, max: i64::MAX } => format!("{min} or more"),
            Self::Whole { min, max } => format!("from {min} to {max}"),
            Self::Fraction => "from 0 to 1".to_owned(),
            Self::Words(words) => format!("one of {}", words.join(", ")),
            Self::AnyOf(words) => format!("one or more of {}", words.join(", ")),
            Self::Only { value: "", .. } => "empty".to_owned(),
            Self::Only { value, .. } => (*value).to_owned(),
        }
    }
}

/// Checks one config entry by itself.
///
/// # Errors
/// [`CoordinatorError::InvalidConfig`]: says what is wrong and what would be right.
pub fn check_config(name: &str, value: &str) -> Result<(), CoordinatorError> {
    let refused = REFUSED.iter().find(|(refused, _)| *refused == name);
    let fault = match (ConfigKey::find(name), refused) {
        (Some(key), _) => match key.check(value) {
            Ok(()) => return Ok(()),
            Err(why) => ConfigFault::Value(why),
        },
        (None, Some((_, why))) => ConfigFault::Value((*why).to_owned()),
        (None, None) => ConfigFault::Unknown,
    };
    Err(invalid(name, value, fault))
}

/// Checks that there is a config of this name.
///
/// # Errors
/// [`CoordinatorError::InvalidConfig`].
pub fn check_config_name(name: &str) -> Result<(), CoordinatorError> {
    ConfigKey::find(name).map(drop).ok_or_else(|| invalid(name, "", ConfigFault::Unknown))
}

/// Checks the configs of a topic of so many replicas against each other; each by itself is right.
///
/// # Errors
/// [`CoordinatorError::InvalidConfig`]: says what is wrong and what would be right.
pub fn check_together(configs: &BTreeMap<String, String>, replicas: usize) -> Result<(), CoordinatorError> {
    let refuse = |key: &ConfigKey, why: String| {
        let value = configs.get(key.name).map_or("", String::as_str);
        Err(invalid(key.name, value, ConfigFault::Value(why)))
    };
    if let Some(wanted) = MIN_INSYNC_REPLICAS.whole(configs) {
        let durability = durability(configs);
        let awaited = replicas_awaited(durability, replicas);
        if usize::try_from(wanted).is_ok_and(|wanted| wanted > awaited) {
            let why = match durability {
                Durability::Quorum | Durability::Memory => format!(
                    "acks=all is answered once a majority has the records, which is {awaited} of the topic's \
                     {replicas} replicas: more cannot be promised"
                ),
                Durability::Leader | Durability::None => format!(
                    "with {}={} the leader alone answers: set that to quorum first",
                    RAFTLINE_DURABILITY.name,
                    word(durability)
                ),
            };
            return refuse(&MIN_INSYNC_REPLICAS, why);
        }
    }
    let lag = |key: &ConfigKey| key.whole(configs).unwrap_or_default();
    if lag(&MIN_COMPACTION_LAG_MS) > lag(&MAX_COMPACTION_LAG_MS) {
        return refuse(&MIN_COMPACTION_LAG_MS, format!("over {}", MAX_COMPACTION_LAG_MS.name));
    }
    Ok(())
}

fn invalid(name: &str, value: &str, fault: ConfigFault) -> CoordinatorError {
    CoordinatorError::InvalidConfig { name: name.to_owned(), value: value.to_owned(), fault }
}

/// The value of `key` that holds for a topic of so many replicas, as text.
#[must_use]
pub fn effective(key: &ConfigKey, configs: &BTreeMap<String, String>, replicas: usize) -> String {
    configs.get(key.name).cloned().unwrap_or_else(|| key.default_for(configs, replicas))
}

/// A topic's configs as the shard uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The largest batch taken.
    pub message_bytes_max: u32,
    /// How long records are kept; `None`: for ever.
    pub retention_ms: Option<i64>,
    /// How many bytes are kept; `None`: all.
    pub retention_bytes: Option<u64>,
    /// When a segment is sealed: by its size,
    pub segment_bytes: u64,
    /// or by the time between its first record and the next one.
    pub segment_ms: i64,
    /// What happens to old records.
    pub cleanup: Cleanup,
    /// What part of a log has to be uncompacted before it is compacted, in millionths.
    pub dirty_ratio_millionths: u32,
    /// How long records stay as they are.
    pub compaction_lag_ms_min: i64,
    /// After how long a log is compacted however little there is to do; `None`: never for that reason.
    pub compaction_lag_ms_max: Option<i64>,
    /// How long deletions are kept.
    pub delete_retention_ms: i64,
}

/// What happens to old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// Whole segments go by age and size.
    Delete,
    /// Records go when a later one has their key.
    Compact,
    /// Both.
    CompactAndDelete,
}

impl Cleanup {
    /// Reads `cleanup.policy`.
    #[must_use]
    pub fn of(configs: &BTreeMap<String, String>) -> Self {
        let words = configs.get(CLEANUP_POLICY.name).filter(|text| CLEANUP_POLICY.check(text).is_ok());
        let has = |wanted| words.is_some_and(|text| list(text).any(|word| word == wanted));
        match (has("compact"), has("delete")) {
            (false, _) => Self::Delete,
            (true, false) => Self::Compact,
            (true, true) => Self::CompactAndDelete,
        }
    }

    /// Whether records go because a later one has their key. Then each has to have one.
    #[must_use]
    pub const fn compacts(self) -> bool {
        matches!(self, Self::Compact | Self::CompactAndDelete)
    }

    /// Whether records go by age, by size, or by request.
    #[must_use]
    pub const fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::CompactAndDelete)
    }
}

impl Settings {
    /// Reads a topic's configs. What is missing, unknown or out of range (a newer version wrote it) takes its default.
    #[must_use]
    pub fn of(configs: &BTreeMap<String, String>) -> Self {
        let value = |key: &ConfigKey| key.whole(configs).unwrap_or_default();
        let cleanup = Cleanup::of(configs);
        Self {
            message_bytes_max: u32::try_from(value(&MAX_MESSAGE_BYTES)).unwrap_or(BATCH_BYTES_MAX),
            retention_ms: Some(value(&RETENTION_MS)).filter(|ms| *ms >= 0 && cleanup.deletes()),
            retention_bytes: u64::try_from(value(&RETENTION_BYTES)).ok().filter(|_| cleanup.deletes()),
            segment_bytes: value(&SEGMENT_BYTES).unsigned_abs(),
            segment_ms: value(&SEGMENT_MS),
            cleanup,
            dirty_ratio_millionths: MIN_CLEANABLE_DIRTY_RATIO.millionths(configs),
            compaction_lag_ms_min: value(&MIN_COMPACTION_LAG_MS),
            compaction_lag_ms_max: Some(value(&MAX_COMPACTION_LAG_MS)).filter(|ms| *ms < i64::MAX),
            delete_retention_ms: value(&DELETE_RETENTION_MS),
        }
    }

    /// How a partition's log is stored.
    #[must_use]
    pub const fn log_config(&self) -> LogConfig {
        LogConfig { segment_bytes: self.segment_bytes, segment_ms: self.segment_ms }
    }
}

/// Whose time a topic's records have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// Their producer's.
    CreateTime,
    /// That of the leader when it took them.
    LogAppendTime,
}

/// `message.timestamp.type`: whoever takes batches from clients stamps them by it.
#[must_use]
pub fn timestamp_type(configs: &BTreeMap<String, String>) -> TimestampType {
    match configs.get(MESSAGE_TIMESTAMP_TYPE.name).map(|text| text.trim()) {
        Some("LogAppendTime") => TimestampType::LogAppendTime,
        Some(_) | None => TimestampType::CreateTime,
    }
}

/// The times that a topic's records may have when a batch comes in at `now`, both ends among them; `None` if any will do,
/// as it does where the broker gives the time.
#[must_use]
pub fn timestamps_taken(
    configs: &BTreeMap<String, String>,
    now: Timestamp,
) -> Option<(Timestamp, Timestamp)> {
    let is_set = |key: &ConfigKey| configs.contains_key(key.name);
    if !is_set(&MESSAGE_TIMESTAMP_AFTER_MAX_MS) && !is_set(&MESSAGE_TIMESTAMP_BEFORE_MAX_MS) {
        return None;
    }
    let ms = |key: &ConfigKey| key.whole(configs).unwrap_or(i64::MAX);
    let (before, after) = (ms(&MESSAGE_TIMESTAMP_BEFORE_MAX_MS), ms(&MESSAGE_TIMESTAMP_AFTER_MAX_MS));
    let is_bounded = before < i64::MAX || after < i64::MAX;
    let bounds = (Timestamp(now.get().saturating_sub(before)), Timestamp(now.get().saturating_add(after)));
    (is_bounded && timestamp_type(configs) == TimestampType::CreateTime).then_some(bounds)
}

/// `raftline.durability`: what a Kafka producer's `acks=all` waits for.
#[must_use]
pub fn durability(configs: &BTreeMap<String, String>) -> Durability {
    match configs.get(RAFTLINE_DURABILITY.name).map(|text| text.trim()) {
        Some("memory") => Durability::Memory,
        Some("leader") => Durability::Leader,
        Some("none") => Durability::None,
        Some(_) | None => Durability::Quorum,
    }
}

/// What [`durability`] reads as this.
const fn word(durability: Durability) -> &'static str {
    match durability {
        Durability::Quorum => "quorum",
        Durability::Memory => "memory",
        Durability::Leader => "leader",
        Durability::None => "none",
    }
}

/// How many replicas surely have a record once `acks=all` is answered.
const fn replicas_awaited(durability: Durability, replicas: usize) -> usize {
    match durability {
        Durability::Quorum | Durability::Memory => replicas / 2 + 1,
        Durability::Leader | Durability::None => 1,
    }
}

/// A list config's value with `words` added (those that are not there yet) or taken out, as IncrementalAlterConfigs
/// wants it. `None` if the config is no list.
#[must_use]
pub fn changed_list(key: &ConfigKey, value: &str, words: &str, change: ListChange) -> Option<String> {
    let (mut changed, words): (Vec<&str>, Vec<&str>) = (list(value).collect(), list(words).collect());
    match change {
        ListChange::Append => {
            for word in words {
                if !changed.contains(&word) {
                    changed.push(word);
                }
            }
        }
        ListChange::Subtract => changed.retain(|word| !words.contains(word)),
    }
    (key.kind == ConfigKind::List).then(|| changed.join(","))
}

/// The words of a list.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// What is done to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListChange {
    /// Words are added.
    Append,
    /// Words are taken out.
    Subtract,
}

#[cfg(test)]
mod tests;
