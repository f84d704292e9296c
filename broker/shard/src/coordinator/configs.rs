//! Every topic config in one table: its name (Kafka's), default, range and what it means.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use raftline_proto::limits::BATCH_BYTES_MAX;

/// One topic config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigKey {
    /// Kafka's name.
    pub name: &'static str,
    /// What holds where a topic says nothing.
    pub default: i64,
    /// The least legal value.
    pub min: i64,
    /// The greatest legal value.
    pub max: i64,
    /// What it means, for people.
    pub documentation: &'static str,
}

/// How long records are kept.
pub const RETENTION_MS: ConfigKey = ConfigKey {
    name: "retention.ms",
    default: 7 * 24 * 60 * 60 * 1000,
    min: -1,
    max: i64::MAX,
    documentation: "Whole segments whose newest record is older than this many milliseconds are deleted; -1 keeps them for ever.",
};

/// How much is kept.
pub const RETENTION_BYTES: ConfigKey = ConfigKey {
    name: "retention.bytes",
    default: -1,
    min: -1,
    max: i64::MAX,
    documentation: "The oldest segments of a partition are deleted while more than this many bytes would be left; -1 sets no bound.",
};

/// How large a segment grows.
pub const SEGMENT_BYTES: ConfigKey = ConfigKey {
    name: "segment.bytes",
    default: 64 << 20,
    min: 4096,
    max: 1 << 30,
    documentation: "A segment of a partition's log is sealed once it has this many bytes. Retention deletes whole segments.",
};

/// How large a batch may be.
pub const MAX_MESSAGE_BYTES: ConfigKey = ConfigKey {
    name: "max.message.bytes",
    default: 1 << 20,
    min: 1,
    max: BATCH_BYTES_MAX as i64,
    documentation: "The largest record batch that is taken, in bytes as sent (compressed).",
};

/// All of them, by name.
pub const CONFIG_KEYS: [ConfigKey; 4] = [MAX_MESSAGE_BYTES, RETENTION_BYTES, RETENTION_MS, SEGMENT_BYTES];

/// A topic's configs as the shard uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The largest batch taken.
    pub message_bytes_max: u32,
    /// How long records are kept; `None`: for ever.
    pub retention_ms: Option<i64>,
    /// How many bytes are kept; `None`: all.
    pub retention_bytes: Option<u64>,
    /// When a segment is sealed.
    pub segment_bytes: u64,
}

impl Settings {
    /// Reads a topic's configs. What is missing, unknown or out of range (a newer version wrote it) takes its default.
    #[must_use]
    pub fn of(configs: &BTreeMap<String, String>) -> Self {
        let value = |key: &ConfigKey| {
            configs.get(key.name).and_then(|text| key.parse(text).ok()).unwrap_or(key.default)
        };
        let message_bytes_max = u32::try_from(value(&MAX_MESSAGE_BYTES)).unwrap_or(BATCH_BYTES_MAX);
        Self {
            message_bytes_max,
            retention_ms: Some(value(&RETENTION_MS)).filter(|ms| *ms >= 0),
            retention_bytes: u64::try_from(value(&RETENTION_BYTES)).ok(),
            segment_bytes: u64::try_from(value(&SEGMENT_BYTES))
                .unwrap_or(SEGMENT_BYTES.default.unsigned_abs()),
        }
    }
}

impl ConfigKey {
    /// The key of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        CONFIG_KEYS.iter().find(|key| key.name == name)
    }

    /// Reads a value.
    ///
    /// # Errors
    /// Says what is wrong and what would be right.
    pub fn parse(&self, text: &str) -> Result<i64, String> {
        let value: i64 =
            text.parse().map_err(|_| format!("not a whole number; it must be {}", self.range()))?;
        if value < self.min || value > self.max {
            return Err(format!("out of range; it must be {}", self.range()));
        }
        Ok(value)
    }

    fn range(&self) -> String {
        match (self.min, self.max) {
            (-1, i64::MAX) => "-1 (no limit) or more".to_owned(),
            (min, max) => format!("from {min} to {max}"),
        }
    }
}

/// Checks one config entry.
///
/// # Errors
/// Says what is wrong and what would be right.
pub fn check_config(name: &str, value: &str) -> Result<(), String> {
    let Some(key) = ConfigKey::find(name) else {
        let names = CONFIG_KEYS.map(|key| key.name).join(", ");
        return Err(format!("no such config; known are {names}"));
    };
    key.parse(value).map(|_| ())
}

/// The value of `key` in `configs`, as text.
#[must_use]
pub fn effective(key: &ConfigKey, configs: &BTreeMap<String, String>) -> String {
    configs.get(key.name).cloned().unwrap_or_else(|| key.default.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_legal_and_keys_sorted() {
        for key in CONFIG_KEYS {
            assert_eq!(key.parse(&key.default.to_string()), Ok(key.default), "{}", key.name);
        }
        assert!(CONFIG_KEYS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn wrong_values_are_named() {
        assert_eq!(
            check_config("segment.bytes", "12").expect_err("too small"),
            "out of range; it must be from 4096 to 1073741824"
        );
        assert_eq!(
            check_config("retention.ms", "-2").expect_err("below -1"),
            "out of range; it must be -1 (no limit) or more"
        );
        assert!(
            check_config("max.message.bytes", "1e6")
                .expect_err("no number")
                .starts_with("not a whole number")
        );
        assert!(check_config("cleanup.policy", "compact").expect_err("unknown").contains("retention.ms"));
        assert_eq!(check_config("max.message.bytes", "16777216"), Ok(()));
        assert!(check_config("max.message.bytes", "16777217").is_err());
    }

    #[test]
    fn settings_follow_the_configs() {
        let settings = Settings::of(&BTreeMap::new());
        assert_eq!(settings.retention_ms, Some(604_800_000));
        assert_eq!(settings.retention_bytes, None);
        assert_eq!(settings.segment_bytes, 64 << 20);
        assert_eq!(settings.message_bytes_max, 1 << 20);
        let configs = [("retention.ms", "-1"), ("retention.bytes", "0"), ("segment.bytes", "nonsense")];
        let settings = Settings::of(
            &configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect(),
        );
        assert_eq!(settings.retention_ms, None);
        assert_eq!(settings.retention_bytes, Some(0));
        assert_eq!(settings.segment_bytes, 64 << 20);
    }
}
