//! Precedence, and errors that a person can act upon.

use super::*;
use std::io::Write;

fn parse(args: &[&str], environment: &[(&str, &str)]) -> Result<Invocation, ConfigError> {
    let args = std::iter::once("raftlined").chain(args.iter().copied()).map(OsString::from);
    let lookup = |wanted: &str| {
        let found = environment.iter().find(|(variable, _)| *variable == wanted);
        found.map(|(_, value)| OsString::from(*value))
    };
    parse_with(args, &lookup, 2)
}

fn config(args: &[&str], environment: &[(&str, &str)]) -> Config {
    match parse(args, environment).unwrap() {
        Invocation::Run(config) => *config,
        Invocation::Print(text) => panic!("printed {text}"),
    }
}

fn error(args: &[&str], environment: &[(&str, &str)]) -> String {
    parse(args, environment).unwrap_err().to_string()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

const BASE: &[&str] = &["--node-id", "1", "--cluster", "c", "--data-dir", "d"];

#[test]
fn dev_needs_nothing_else() {
    let config = config(&["--dev"], &[]);
    assert_eq!(config.node, NodeId(1));
    assert_eq!(config.grpc, "127.0.0.1:9192");
    assert!(config.auto_create_topics);
    assert!(config.dev && config.log_level == "warn" && config.groups.initial_rebalance_delay.is_zero());
    assert_eq!(config.default_replication, 1);
    assert_eq!(config.peers, BTreeMap::from([(NodeId(1), "127.0.0.1:9192".to_owned())]));
}

#[test]
fn a_flag_wins_over_environment_over_file_over_default() {
    let file = file("workers = 5\nresend-ms = 300\nalive-interval-ms = 50\n");
    let path = file.path().to_str().unwrap();
    let environment = [("RAFTLINE_WORKERS", "6"), ("RAFTLINE_RESEND_MS", "400"), ("RAFTLINE_CONFIG", path)];
    let args = [BASE, &["--workers", "7"]].concat();
    let config = config(&args, &environment);
    assert_eq!(config.workers, 7);
    assert_eq!(config.timings.resend, Duration::from_millis(400));
    assert_eq!(config.timings.alive_interval, Duration::from_millis(50));
    assert_eq!(config.timings.alive_lapse, Duration::from_millis(1000));
}

#[test]
fn the_listing_names_every_origin() {
    let file = file("workers = 5\n");
    let path = file.path().to_str().unwrap();
    let args = ["--dev", "--node-id", "3", "--config", path, "--print-config"];
    let Invocation::Print(text) = parse(&args, &[("RAFTLINE_RESEND_MS", "400")]).unwrap() else {
        panic!("not printed")
    };
    let origin = |key: &str| {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(key)).unwrap();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(origin("node-id"), "3 command line");
    assert_eq!(origin("resend-ms"), "400 environment RAFTLINE_RESEND_MS");
    assert_eq!(origin("workers"), format!("5 file {path}"));
    assert_eq!(origin("cluster"), "dev default of --dev");
    assert_eq!(origin("alive-lapse-ms"), "1000 default");
    assert_eq!(origin("advertise-grpc"), "- not set");
    assert_eq!(text.lines().count(), keys::KEYS.len());
}

#[test]
fn peers_come_from_flags_environment_and_lists() {
    let wanted = BTreeMap::from([(NodeId(1), "a:1".to_owned()), (NodeId(2), "b:2".to_owned())]);
    assert_eq!(config(&[BASE, &["--peer", "1=a:1", "--peer", "2=b:2"]].concat(), &[]).peers, wanted);
    assert_eq!(config(BASE, &[("RAFTLINE_PEER", "1=a:1, 2=b:2")]).peers, wanted);
    let file = file("peer = [\"1=a:1\", \"2=b:2\"]\n");
    let args = [BASE, &["--config", file.path().to_str().unwrap()]].concat();
    let config = config(&args, &[]);
    assert_eq!(config.peers, wanted);
    assert_eq!(config.grpc, "a:1", "the listener is where the peers look for it");
    assert_eq!(config.default_replication, 2);
}

#[test]
fn errors_name_key_value_origin_and_what_is_right() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["--workers", "0"],
            "`workers` = `0` (from command line) is not valid: expected a whole number from 1",
        ),
        (&["--grpc", "nonsense"], "`grpc` = `nonsense` (from command line)"),
        (&["--grpc", "0.0.0.0:9192"], "advertise-grpc beside it"),
        (&["--grpc", "127.0.0.1:9", "--peer", "1=127.0.0.1:8"], "127.0.0.1:8, as peer names this node"),
        (&["--disk-reserve", "5 elephants"], "64MiB"),
        (&["--default-segment-bytes", "1"], "from 4096 to"),
        (&["--log-format", "xml"], "text or json"),
        (&["--peer", "2=b:2"], "node-id 1) among them"),
        (&["--peer", "1=a:1", "--peer", "1=b:2"], "every id and every address once"),
        (&["--peer", "1:a:1"], "ID=HOST:PORT"),
        (&["--peer", "1=a:0"], "ID=HOST:PORT"),
        (&["--alive-lapse-ms", "150"], "at least three alive-interval-ms, 300"),
        (
            &["--group-consumer-session-timeout-ms", "9000"],
            "at least two group-consumer-heartbeat-interval-ms, 10000",
        ),
        (&["--election-timeout-max-ms", "400"], "at least one and a half election-timeout-min-ms, 450"),
    ];
    for (args, expected) in cases {
        let found = error(&[BASE, args].concat(), &[]);
        assert!(found.contains(expected), "{args:?}: {found}");
    }
    let found = error(BASE, &[("RAFTLINE_WORKERS", "many")]);
    assert!(found.contains("(from environment RAFTLINE_WORKERS)"), "{found}");
}

#[test]
fn variables_that_nobody_reads_are_told_with_the_nearest() {
    let names = ["RAFTLINE_PEERS", "RAFTLINE_PEER", "RAFTLINE_BROKERS", "PATH", "RAFTLINE_Cluster"];
    let unknown = keys::unknown_variables(names.map(str::to_owned));
    let unknown: Vec<_> = unknown.iter().map(|(name, nearest)| (name.as_str(), nearest.as_str())).collect();
    assert_eq!(unknown, [("RAFTLINE_PEERS", "RAFTLINE_PEER"), ("RAFTLINE_Cluster", "RAFTLINE_CLUSTER")]);
}

#[test]
fn a_level_that_is_none_is_no_filter() {
    for text in ["inof", "info,raftlined", "verbose"] {
        let found = error(&[BASE, &["--log-level", text]].concat(), &[]);
        assert!(found.contains("`log-level`") && found.contains("raftline_broker=debug,info"), "{found}");
    }
    for text in ["warn", "raftline_broker=debug,info", "off", "DEBUG", "h2=info", "raftline_broker"] {
        assert_eq!(config(&[BASE, &["--log-level", text]].concat(), &[]).log_level, text);
    }
}

#[test]
fn kafka_listeners_have_names_and_addresses() {
    let listener = |name: &str, bind: &str, advertise: Option<&str>| KafkaListener {
        name: name.to_owned(),
        bind: bind.to_owned(),
        advertise: advertise.map(str::to_owned),
    };
    let kafka = |args: &[&str]| config(&[BASE, args].concat(), &[]).kafka;
    assert_eq!(kafka(&[]), []);
    assert_eq!(kafka(&["--kafka", "127.0.0.1:9092"]), [listener("PLAINTEXT", "127.0.0.1:9092", None)]);
    assert_eq!(
        kafka(&["--kafka", "PLAINTEXT://0.0.0.0:9092", "--advertise-kafka", "a.example:9092"]),
        [listener("PLAINTEXT", "0.0.0.0:9092", Some("a.example:9092"))]
    );
    let both = [listener("INSIDE", "10.0.0.1:9092", None), listener("OUTSIDE", "0.0.0.0:19092", Some("a:1"))];
    let args = ["--kafka", "INSIDE=10.0.0.1:9092,outside=0.0.0.0:19092", "--advertise-kafka", "Outside=a:1"];
    assert_eq!(kafka(&args), both);
    let environment = [
        ("RAFTLINE_KAFKA", "INSIDE=10.0.0.1:9092, outside=PLAINTEXT://0.0.0.0:19092"),
        ("RAFTLINE_ADVERTISE_KAFKA", "OUTSIDE=a:1"),
    ];
    assert_eq!(config(BASE, &environment).kafka, both);
    let file = file(
        "kafka = [\"INSIDE=10.0.0.1:9092\", \"OUTSIDE=0.0.0.0:19092\"]\nadvertise-kafka = \"OUTSIDE=a:1\"\n",
    );
    assert_eq!(kafka(&["--config", file.path().to_str().unwrap()]), both);
}

#[test]
fn errors_of_kafka_listeners_say_what_is_right() {
    let cases: &[(&[&str], &str)] = &[
        (&["--kafka", "nonsense"], "[NAME=][PLAINTEXT://]HOST:PORT"),
        (&["--kafka", "SSL://a:1"], "SSL is not served"),
        (&["--kafka", "OUT=SASL_SSL://a:1"], "SASL_SSL is not served"),
        (&["--kafka", "INSIDE://a:1"], "here INSIDE=a:1"),
        (&["--kafka", "=a:1"], "a listener's name of 1 to 64"),
        (&["--kafka", "A=a:1,a=b:1"], "every listener's name and every address once"),
        (&["--kafka", "A=a:1,B=a:1"], "every listener's name and every address once"),
        (&["--kafka", "a:1,b:1"], "every listener's name and every address once"),
        (&["--kafka", "A=0.0.0.0:1"], "advertise-kafka A=HOST:PORT beside it"),
        (&["--kafka", "A=a:1,B=b:1", "--advertise-kafka", "c:1"], "NAME=HOST:PORT: there are several"),
        (&["--kafka", "A=a:1", "--advertise-kafka", "B=c:1"], "which B is not: A"),
        (&["--kafka", "A=a:1", "--advertise-kafka", "A=c:1,A=d:1"], "A has two"),
        (&["--kafka", "A=a:1", "--advertise-kafka", "A=0.0.0.0:1"], "that clients can dial"),
        (&["--advertise-kafka", "a:1"], "kafka beside it"),
    ];
    for (args, expected) in cases {
        let found = error(&[BASE, args].concat(), &[]);
        assert!(found.contains(expected), "{args:?}: {found}");
    }
}

#[test]
fn names_are_checked() {
    for name in ["", "a/b", "a b", "ä"] {
        let found = error(&["--node-id", "1", "--cluster", name, "--data-dir", "d"], &[]);
        assert!(found.contains("`cluster`"), "{found}");
    }
    let found = error(&["--node-id", "0", "--cluster", "c", "--data-dir", "d"], &[]);
    assert!(found.contains("`node-id` = `0`"), "{found}");
}

#[test]
fn a_missing_key_says_how_to_set_it() {
    let found = error(&["--node-id", "1", "--data-dir", "d"], &[]);
    assert!(found.contains("--cluster") && found.contains("RAFTLINE_CLUSTER"), "{found}");
}

#[test]
fn files_are_checked() {
    let unknown = file("node_id = 1\n");
    let path = unknown.path().to_str().unwrap();
    let found = error(&["--config", path], &[]);
    assert!(found.contains("`node_id`") && found.contains(path) && found.contains("`node-id`"), "{found}");
    let found = error(&["--config", "/nowhere/raftline.toml"], &[]);
    assert!(found.contains("/nowhere/raftline.toml"), "{found}");
    let broken = file("node-id = = 1\n");
    assert!(error(&["--config", broken.path().to_str().unwrap()], &[]).contains("line 1"));
    let table = file("[grpc]\nhost = 1\n");
    assert!(error(&["--config", table.path().to_str().unwrap()], &[]).contains("`grpc`"));
}

#[test]
fn sizes_have_binary_suffixes() {
    let cases = [("17", Some(17)), ("4KiB", Some(4096)), ("2 GiB", Some(2 << 30)), ("1m", Some(1 << 20))];
    for (text, expected) in cases {
        assert_eq!(size(text), expected, "{text}");
    }
    for text in ["", "MiB", "-1", "1.5MiB", "99999999999TiB"] {
        assert_eq!(size(text), None, "{text}");
    }
}
