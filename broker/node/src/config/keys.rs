//! The table of everything that can be configured: one row a key, good for the flag, the environment and the file.

/// One thing that can be configured. `--name` on the command line, `RAFTLINE_NAME` in the environment, `name` in the
/// file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name, in the flag's spelling.
    pub name: &'static str,
    /// What stands for the value in the help; empty for a switch.
    pub value: &'static str,
    /// What it holds where nobody sets it; `None` if it has to be set, or if another key gives it.
    pub default: Option<&'static str>,
    /// The same under `--dev`, where it differs.
    pub dev_default: Option<&'static str>,
    /// How often it may be given.
    pub arity: Arity,
    /// One sentence for the help.
    pub help: &'static str,
}

/// How often a key may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// A flag without a value; `true` or `false` in the environment and the file.
    Switch,
    /// One value.
    One,
    /// Any number of values; separated by commas in the environment, a list in the file.
    Many,
}

impl Key {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("RAFTLINE_{}", self.name.to_uppercase().replace('-', "_"))
    }

    /// Its row in the table.
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The key whose name is most like `name`, for error messages.
    pub fn nearest(name: &str) -> &'static str {
        let spelled = name.replace('_', "-").to_lowercase();
        let best = KEYS.iter().min_by_key(|key| distance(key.name, &spelled));
        best.map_or("node-id", |key| key.name)
    }
}

/// Variables that one of the two programs reads and that set no key.
const OTHER_VARIABLES: [&str; 3] = ["RAFTLINE_CONFIG", "RAFTLINE_BROKERS", "RAFTLINE_LOG"];

/// The variables among `names` that look as if they were for Raftline, and that nobody reads; each with the most similar
/// one that somebody does.
pub fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<(String, String)> {
    let known: Vec<String> =
        KEYS.iter().map(Key::variable).chain(OTHER_VARIABLES.map(str::to_owned)).collect();
    let unknown = |name: &String| name.starts_with("RAFTLINE_") && !known.contains(name);
    let nearest = |name: String| {
        let best = known.iter().min_by_key(|known| distance(known, &name.to_uppercase()));
        (name, best.cloned().unwrap_or_default())
    };
    names.into_iter().filter(unknown).map(nearest).collect()
}

/// Levenshtein's edit distance; names are short, so the quadratic way does.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

const fn one(name: &'static str, value: &'static str, default: &'static str, help: &'static str) -> Key {
    Key { name, value, default: Some(default), dev_default: None, arity: Arity::One, help }
}

const fn unset(name: &'static str, value: &'static str, help: &'static str) -> Key {
    Key { name, value, default: None, dev_default: None, arity: Arity::One, help }
}

/// Every key, in the order of the help.
pub const KEYS: &[Key] = &[
    Key {
        name: "dev",
        value: "",
        default: Some("false"),
        dev_default: None,
        arity: Arity::Switch,
        help: "Run one node for development: node 1 of cluster \"dev\", topics made on first use",
    },
    Key {
        dev_default: Some("1"),
        ..unset("node-id", "ID", "This broker's number, from 1; stays with the machine for ever")
    },
    Key {
        dev_default: Some("dev"),
        ..unset("cluster", "NAME", "The cluster's name, the same on all its brokers")
    },
    Key {
        dev_default: Some("raftline-dev"),
        ..unset("data-dir", "DIR", "Where this broker keeps its data; formatted on first use")
    },
    Key {
        name: "adopt-copy",
        value: "",
        default: Some("false"),
        dev_default: None,
        arity: Arity::Switch,
        help: "Take a data directory that was copied, with the broker stopped and the original not started since: once",
    },
    one(
        "grpc",
        "HOST:PORT",
        "127.0.0.1:9192",
        "Where to listen for clients and peers; port 0 takes a free one",
    ),
    unset("advertise-grpc", "HOST:PORT", "Where clients reach that listener [default: its own address]"),
    Key {
        dev_default: Some("127.0.0.1:9092"),
        arity: Arity::Many,
        ..unset(
            "kafka",
            "[NAME=]HOST:PORT",
            "Where to listen for Kafka clients, several with names; port 0 takes a free one [default: nowhere]",
        )
    },
    Key {
        arity: Arity::Many,
        ..unset(
            "advertise-kafka",
            "[NAME=]HOST:PORT",
            "Where Kafka clients reach a listener; told to those that came in by one of its name [default: its own address]",
        )
    },
    Key {
        name: "peer",
        value: "ID=HOST:PORT",
        default: None,
        dev_default: None,
        arity: Arity::Many,
        help: "One for every broker of the cluster, this one among them [default: this broker alone]",
    },
    unset("shards", "N", "Threads that own partitions [default: one a core, but 1 on two cores]"),
    one("workers", "N", "2", "Threads that serve sockets"),
    Key {
        dev_default: Some("true"),
        ..one("auto-create-topics", "BOOL", "false", "Make topics that clients name and that do not exist")
    },
    one("default-partitions", "N", "3", "Partitions of a new topic that does not say"),
    unset(
        "default-replication",
        "N",
        "Replicas of a new topic that does not say [default: 3, or all brokers]",
    ),
    unset("default-segment-bytes", "SIZE", "Log file size of a new topic that does not say [default: 64MiB]"),
    unset(
        "disk-reserve",
        "SIZE",
        "Free space below which no records are taken [default: 256MiB or a twentieth of the disk]",
    ),
    Key {
        // Whoever tries something out waits for its first record.
        dev_default: Some("0"),
        ..one(
            "group-initial-rebalance-delay-ms",
            "MS",
            "3000",
            "How long an empty consumer group waits for more members before it assigns its partitions",
        )
    },
    one("group-min-session-timeout-ms", "MS", "6000", "Shortest session that a group's member may ask for"),
    one(
        "group-consumer-session-timeout-ms",
        "MS",
        "45000",
        "Silence after which a member of the new group protocol counts as gone",
    ),
    one(
        "group-consumer-heartbeat-interval-ms",
        "MS",
        "5000",
        "How often members of the new group protocol show that they live",
    ),
    one(
        "group-consumer-migration-policy",
        "bidirectional|upgrade|downgrade|disabled",
        "bidirectional",
        "Which way a consumer group with members may change between the classic and the new protocol",
    ),
    one("alive-interval-ms", "MS", "100", "How often brokers show each other that they live"),
    one("alive-lapse-ms", "MS", "1000", "Silence after which a broker counts as down"),
    one(
        "broker-session-timeout-ms",
        "MS",
        "9000",
        "How long Kafka clients are still told of a broker that counts as down",
    ),
    one("election-timeout-min-ms", "MS", "300", "Shortest wait before a replica without a leader campaigns"),
    one("election-timeout-max-ms", "MS", "900", "Longest wait before a replica without a leader campaigns"),
    one("resend-ms", "MS", "200", "Wait for a follower's answer before entries are sent again"),
    one("cleanup-interval-ms", "MS", "30000", "How often partitions look for records to delete or compact"),
    one("drain-timeout-ms", "MS", "5000", "How long a stop may take to hand leadership over"),
    one("log-format", "text|json", "text", "How log lines look"),
    Key {
        // The terminal belongs to whoever types there; what matters is greeted with.
        dev_default: Some("warn"),
        ..one(
            "log-level",
            "FILTER",
            "info",
            "Which log lines are written: error, warn, info, debug, trace, or per module",
        )
    },
];
