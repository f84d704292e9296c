//! What a broker is told at its start: flags, environment, file and defaults, resolved into one valid [`Config`].
//!
//! In reading order: this file (the typed result and its rules), `keys` (the table), `sources` (who said what),
//! `listeners` (those for Kafka's clients).

mod keys;
mod listeners;
mod sources;
#[cfg(test)]
mod tests;

use crate::identity::Copies;
use raftline_proto::ids::NodeId;
use raftline_proto::limits::{PARTITIONS_MAX, REPLICAS_MAX, VOTERS_MAX};
use raftline_shard::consumer_groups::limits::{GroupsConfig, MigrationPolicy};
use sources::Values;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub use listeners::KafkaListener;
pub use sources::{Origin, command};

/// A broker's configuration, every value checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether it is for development, in front of somebody's eyes.
    pub dev: bool,
    /// This broker's number.
    pub node: NodeId,
    /// The cluster's name.
    pub cluster_name: String,
    /// Where its data lies.
    pub data_dir: PathBuf,
    /// Where its gRPC listener is bound: `host:port`.
    pub grpc: String,
    /// Where others reach that listener; `None`: at the address it is bound to.
    pub advertise_grpc: Option<String>,
    /// Its listeners for Kafka's clients, if there are any.
    pub kafka: Vec<KafkaListener>,
    /// All brokers, this one among them, with their addresses: the initial voters of the coordinator.
    pub peers: BTreeMap<NodeId, String>,
    /// Shard threads.
    pub shards: u32,
    /// Threads for sockets.
    pub workers: usize,
    /// Whether topics that clients name are made.
    pub auto_create_topics: bool,
    /// Partitions of a topic that does not say.
    pub default_partitions: u32,
    /// Replicas of a topic that does not say.
    pub default_replication: u32,
    /// A new topic's `segment.bytes` where its creator does not say; `None`: the built-in default.
    pub default_segment_bytes: Option<u64>,
    /// Free space below which no records are taken; `None`: as the disk's size suggests.
    pub disk_reserve_bytes: Option<u64>,
    /// What becomes of a data directory that was copied.
    pub copies: Copies,
    /// Every timeout.
    pub timings: Timings,
    /// What consumer groups are held to.
    pub groups: GroupsConfig,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which are written.
    pub log_level: String,
}

/// Every timeout that can be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Between two signs of life to one peer.
    pub alive_interval: Duration,
    /// Silence after which a peer counts as down.
    pub alive_lapse: Duration,
    /// The shortest election timeout.
    pub election_timeout_min: Duration,
    /// The longest.
    pub election_timeout_max: Duration,
    /// How long a leader waits for a follower before it sends again.
    pub resend: Duration,
    /// Between two looks for records that are to be deleted or compacted.
    pub cleanup: Duration,
    /// How long a stop may take to hand leadership over.
    pub drain: Duration,
    /// How long Kafka clients are still told of a broker that counts as down.
    pub broker_session: Duration,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON document a line.
    Json,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Run a broker.
    Run(Box<Config>),
    /// Print this text and exit.
    Print(String),
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line does not parse, or asks for help; clap knows how to say it.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// The file cannot be read, or is not TOML.
    #[error("cannot read the configuration file {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file has a key that does not exist.
    #[error(
        "unknown key `{name}` in {}: did you mean `{nearest}`? `raftlined --print-config` lists every key",
        path.display()
    )]
    UnknownKey {
        /// The key.
        name: String,
        /// The file.
        path: PathBuf,
        /// The most similar one that exists.
        nearest: &'static str,
    },
    /// A value is out of range or not of the right form.
    #[error("`{key}` = `{value}` (from {origin}) is not valid: expected {expected}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// Who wrote it.
        origin: Origin,
        /// What would be right.
        expected: String,
    },
    /// A key has to be set and is not.
    #[error("`{key}` is not set: give --{key}, or {variable}, or `{key}` in the file; or start with --dev")]
    Missing {
        /// The key.
        key: &'static str,
        /// Its variable.
        variable: String,
    },
}

/// Parses a command line, its first item the program's name, with the process's environment.
///
/// # Errors
/// Says which key is wrong, who wrote it and what would be right.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, ConfigError> {
    parse_with(args, &|variable| std::env::var_os(variable), cores())
}

fn parse_with(
    args: impl IntoIterator<Item = OsString>,
    environment: &dyn Fn(&str) -> Option<OsString>,
    cores: usize,
) -> Result<Invocation, ConfigError> {
    let matches = command("raftlined").try_get_matches_from(args)?;
    let values = sources::gather(&matches, environment)?;
    if matches.get_flag("print-config") {
        return Ok(Invocation::Print(values.listing()));
    }
    Ok(Invocation::Run(Box::new(resolve(&values, cores)?)))
}

/// A line for each variable of the environment that looks as if it were for Raftline and is none: it would be ignored,
/// and a misspelt one is missed only when it is needed.
#[must_use]
pub fn variables_that_nobody_reads() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let line = |(name, nearest)| {
        format!("the environment sets {name}, which nobody reads: did you mean {nearest}? Unset it if not")
    };
    keys::unknown_variables(names).into_iter().map(line).collect()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn resolve(values: &Values, cores: usize) -> Result<Config, ConfigError> {
    let reader = Reader { values };
    let dev: bool = reader.required("dev", "true or false", |text| text.parse().ok())?;
    let adopts_copy: bool = reader.required("adopt-copy", "true or false", |text| text.parse().ok())?;
    let copies = if adopts_copy { Copies::Taken } else { Copies::Refused };
    let node = NodeId(reader.number("node-id", 1, u64::from(u32::MAX))?);
    let name_rule = "1 to 255 letters, digits, dots, underscores or dashes";
    let cluster_name = reader.required("cluster", name_rule, |text| {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        ((1..=255).contains(&text.len()) && text.chars().all(legal)).then(|| text.to_owned())
    })?;
    let data_dir =
        reader.required("data-dir", "a path", |text| (!text.is_empty()).then(|| PathBuf::from(text)))?;
    let peers = reader.peers(node)?;
    let grpc = reader.grpc(node, &peers)?;
    let advertise_grpc = reader.advertise_grpc(&grpc)?;
    if advertise_grpc.is_none() {
        reader.check_own_peer(node, peers.as_ref(), &grpc)?;
    }
    let kafka = reader.kafka()?;
    let peers = match peers {
        Some(peers) => peers,
        None => BTreeMap::from([(node, advertise_grpc.clone().unwrap_or_else(|| grpc.clone()))]),
    };
    let default_shards = u64::try_from(if cores <= 2 { 1 } else { cores }).unwrap_or(1);
    let replication_max = u64::try_from(REPLICAS_MAX.min(VOTERS_MAX)).unwrap_or(1);
    let default_replication = u64::try_from(peers.len().min(3)).unwrap_or(1);
    Ok(Config {
        dev,
        node,
        cluster_name,
        data_dir,
        grpc,
        advertise_grpc,
        kafka,
        shards: reader.number_or("shards", 1, 256, default_shards)?,
        workers: reader.number("workers", 1, 256)?,
        auto_create_topics: reader.required("auto-create-topics", "true or false", |t| t.parse().ok())?,
        default_partitions: reader.number("default-partitions", 1, u64::from(PARTITIONS_MAX))?,
        default_replication: reader.number_or(
            "default-replication",
            1,
            replication_max,
            default_replication,
        )?,
        default_segment_bytes: reader.size("default-segment-bytes", 4 << 10, 1 << 30)?,
        copies,
        disk_reserve_bytes: reader.size("disk-reserve", 0, 1 << 50)?,
        timings: reader.timings()?,
        groups: reader.groups()?,
        log_format: reader.required("log-format", "text or json", |text| match text {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        })?,
        log_level: reader.required(
            "log-level",
            "a filter such as info or raftline_broker=debug,info",
            |text| crate::logging::filter(text).map(|_| text.to_owned()),
        )?,
        peers,
    })
}

/// Reads typed values; its errors name key, value, origin and what would be right.
struct Reader<'a> {
    values: &'a Values,
}

impl Reader<'_> {
    fn optional<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        let text = value.texts.join(",");
        match parse(text.trim()) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(self.invalid(key, expected)),
        }
    }

    fn required<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let variable = || keys::Key::find(key).map(keys::Key::variable).unwrap_or_default();
        self.optional(key, expected, parse)?.ok_or_else(|| ConfigError::Missing { key, variable: variable() })
    }

    fn number<T: TryFrom<u64>>(&self, key: &'static str, min: u64, max: u64) -> Result<T, ConfigError> {
        self.required(key, &format!("a whole number from {min} to {max}"), |text| ranged(text, min, max))
    }

    fn number_or<T: TryFrom<u64>>(
        &self,
        key: &'static str,
        min: u64,
        max: u64,
        otherwise: u64,
    ) -> Result<T, ConfigError> {
        let expected = format!("a whole number from {min} to {max}");
        let parsed = self.optional(key, &expected, |text| ranged(text, min, max))?;
        parsed.map_or_else(
            || T::try_from(otherwise.clamp(min, max)).map_err(|_| self.invalid(key, &expected)),
            Ok,
        )
    }

    fn size(&self, key: &'static str, min: u64, max: u64) -> Result<Option<u64>, ConfigError> {
        let expected = format!("a size from {min} to {max} bytes, such as 65536, 64KiB, 64MiB or 1GiB");
        self.optional(key, &expected, |text| size(text).filter(|bytes| (min..=max).contains(bytes)))
    }

    fn duration(&self, key: &'static str, min: u64, max: u64) -> Result<Duration, ConfigError> {
        Ok(Duration::from_millis(self.number(key, min, max)?))
    }

    fn timings(&self) -> Result<Timings, ConfigError> {
        let timings = Timings {
            alive_interval: self.duration("alive-interval-ms", 10, 10_000)?,
            alive_lapse: self.duration("alive-lapse-ms", 50, 60_000)?,
            election_timeout_min: self.duration("election-timeout-min-ms", 10, 60_000)?,
            election_timeout_max: self.duration("election-timeout-max-ms", 20, 120_000)?,
            resend: self.duration("resend-ms", 10, 60_000)?,
            cleanup: self.duration("cleanup-interval-ms", 100, 3_600_000)?,
            drain: self.duration("drain-timeout-ms", 0, 600_000)?,
            broker_session: self.duration("broker-session-timeout-ms", 100, 600_000)?,
        };
        if timings.alive_lapse < timings.alive_interval * 3 {
            let least = timings.alive_interval.as_millis() * 3;
            return Err(self.invalid("alive-lapse-ms", &format!("at least three alive-interval-ms, {least}")));
        }
        if timings.election_timeout_max < timings.election_timeout_min * 3 / 2 {
            let least = timings.election_timeout_min.as_millis() * 3 / 2;
            let expected = format!("at least one and a half election-timeout-min-ms, {least}");
            return Err(self.invalid("election-timeout-max-ms", &expected));
        }
        Ok(timings)
    }

    fn groups(&self) -> Result<GroupsConfig, ConfigError> {
        let groups = GroupsConfig {
            initial_rebalance_delay: self.duration("group-initial-rebalance-delay-ms", 0, 300_000)?,
            session_timeout_min: self.duration("group-min-session-timeout-ms", 1, 1_800_000)?,
            consumer_session_timeout: self.duration("group-consumer-session-timeout-ms", 100, 600_000)?,
            consumer_heartbeat_interval: self.duration("group-consumer-heartbeat-interval-ms", 10, 60_000)?,
            migration: self.required(
                "group-consumer-migration-policy",
                "bidirectional, upgrade, downgrade or disabled",
                |text| {
                    let mut all = MigrationPolicy::ALL.into_iter();
                    all.find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, policy)| policy)
                },
            )?,
            ..GroupsConfig::default()
        };
        if groups.consumer_session_timeout < groups.consumer_heartbeat_interval * 2 {
            let least = groups.consumer_heartbeat_interval.as_millis() * 2;
            let expected = format!("at least two group-consumer-heartbeat-interval-ms, {least}");
            return Err(self.invalid("group-consumer-session-timeout-ms", &expected));
        }
        Ok(groups)
    }

    /// The cluster's brokers; `None` if this one is alone.
    fn peers(&self, node: NodeId) -> Result<Option<BTreeMap<NodeId, String>>, ConfigError> {
        let Some(value) = self.values.get("peer") else { return Ok(None) };
        let mut peers = BTreeMap::new();
        for text in &value.texts {
            let (id, address) =
                peer(text).ok_or_else(|| self.invalid("peer", "ID=HOST:PORT, such as 2=10.0.0.2:9192"))?;
            if peers.values().any(|other| *other == address) || peers.insert(id, address).is_some() {
                return Err(self.invalid("peer", "every id and every address once"));
            }
        }
        if peers.len() > VOTERS_MAX {
            return Err(self.invalid("peer", &format!("at most {VOTERS_MAX} brokers")));
        }
        if !peers.contains_key(&node) {
            let expected = format!("this broker (node-id {node}) among them; brokers cannot join later yet");
            return Err(self.invalid("peer", &expected));
        }
        Ok(Some(peers))
    }

    /// The listener's address: as said, else as the peers know it, else the default.
    fn grpc(&self, node: NodeId, peers: &Option<BTreeMap<NodeId, String>>) -> Result<String, ConfigError> {
        let said = self.required("grpc", "HOST:PORT, such as 127.0.0.1:9192", host_port)?;
        let own = peers.as_ref().and_then(|peers| peers.get(&node));
        let by_default =
            self.values.get("grpc").is_some_and(|v| matches!(v.origin, Origin::Default | Origin::Dev));
        match own {
            Some(own) if by_default => Ok(own.clone()),
            _ => Ok(said),
        }
    }

    /// The very host of the listener with another port is a slip, after which no peer finds this node.
    fn check_own_peer(
        &self,
        node: NodeId,
        peers: Option<&BTreeMap<NodeId, String>>,
        grpc: &str,
    ) -> Result<(), ConfigError> {
        let Some(own) = peers.and_then(|peers| peers.get(&node)) else { return Ok(()) };
        match (own.rsplit_once(':'), grpc.rsplit_once(':')) {
            (Some((host, port)), Some((bound, listening)))
                if host == bound && port != listening && listening != "0" =>
            {
                let expected = format!(
                    "{own}, as peer names this node (peers and clients share that port), or advertise-grpc beside it"
                );
                Err(self.invalid("grpc", &expected))
            }
            _ => Ok(()),
        }
    }

    /// Where clients reach the gRPC listener; a wildcard address does not say.
    fn advertise_grpc(&self, bound: &str) -> Result<Option<String>, ConfigError> {
        let rule = "HOST:PORT that clients can dial, such as broker1.example:9192";
        let advertised = self.optional("advertise-grpc", rule, |text| {
            host_port(text).filter(|text| !is_wildcard(text) && !text.ends_with(":0"))
        })?;
        if advertised.is_none() && is_wildcard(bound) {
            let expected =
                "a certain address, or advertise-grpc beside it: clients cannot dial a wildcard address";
            return Err(self.invalid("grpc", expected));
        }
        Ok(advertised)
    }

    fn invalid(&self, key: &'static str, expected: &str) -> ConfigError {
        let value = self.values.get(key);
        ConfigError::Invalid {
            key,
            value: value.map(|value| value.texts.join(",")).unwrap_or_default(),
            origin: value.map_or(Origin::Default, |value| value.origin.clone()),
            expected: expected.to_owned(),
        }
    }
}

fn ranged<T: TryFrom<u64>>(text: &str, min: u64, max: u64) -> Option<T> {
    let number: u64 = text.parse().ok()?;
    if !(min..=max).contains(&number) {
        return None;
    }
    T::try_from(number).ok()
}

/// A byte size: plain, or with one of the binary suffixes.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "tib" | "t" => 1_u64 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// `HOST:PORT`, an IPv6 host in brackets.
fn host_port(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    let plain =
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    (bracketed || plain).then(|| text.to_owned())
}

fn is_wildcard(address: &str) -> bool {
    address.starts_with("0.0.0.0:") || address.starts_with("[::]:")
}

fn peer(text: &str) -> Option<(NodeId, String)> {
    let (id, address) = text.split_once('=')?;
    let id = ranged(id.trim(), 1, u64::from(u32::MAX))?;
    let address = host_port(address.trim())?;
    (!address.ends_with(":0") && !is_wildcard(&address)).then_some((NodeId(id), address))
}
