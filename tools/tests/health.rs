//! `cluster health` and the log, on three brokers: what goes wrong is named, once, and by topic and partition.

use raftline_tools::clock::monotonic;
use serde_json::Value;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Nothing here takes long; a test that waits for this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

const PARTITIONS: usize = 12;

/// Three broker processes. Dropping them kills them.
struct Three {
    folder: tempfile::TempDir,
    addresses: Vec<String>,
    brokers: Vec<Option<Child>>,
}

impl Three {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listeners: Vec<TcpListener> =
            (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let addresses: Vec<String> =
            listeners.iter().map(|listener| listener.local_addr().expect("bound").to_string()).collect();
        drop(listeners);
        let mut three = Self { folder, addresses, brokers: vec![None, None, None] };
        for node in 1..=3 {
            three.start_one(node, &[]);
        }
        three.until_healthy();
        let partitions = PARTITIONS.to_string();
        three.run(&["topic", "create", "t", "--partitions", &partitions, "--replication", "3"]);
        three.until_healthy();
        three
    }

    fn start_one(&mut self, node: usize, more: &[&str]) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.log_file(node)).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_raftline"));
        command.args(["broker", "--node-id", &node.to_string(), "--cluster", "health"]);
        command.arg("--data-dir").arg(self.data_dir(node));
        for (address, peer) in self.addresses.iter().zip(1..) {
            command.arg("--peer").arg(format!("{peer}={address}"));
        }
        let child = command.args(more).stdin(Stdio::null()).stderr(log).spawn().expect("the binary runs");
        self.brokers[node - 1] = Some(child);
    }

    fn kill(&mut self, node: usize) {
        let mut child = self.brokers[node - 1].take().expect("it runs");
        child.kill().expect("it runs");
        child.wait().expect("ended");
    }

    fn data_dir(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("n{node}"))
    }

    fn log_file(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("n{node}.log"))
    }

    fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.log_file(node)).expect("readable")
    }

    /// Runs a command in JSON: its exit code and its document.
    fn run(&self, args: &[&str]) -> (Option<i32>, Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_raftline"))
            .args(["-o", "json", "--brokers", &self.addresses.join(",")])
            .args(args)
            .output()
            .expect("the binary runs");
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    /// What is wrong, once all of `named` is among it; and nothing else is, but for what names one of `beside`.
    fn until_named(&self, named: &[&str], beside: &[&str]) -> Vec<String> {
        let began = monotonic();
        loop {
            let (code, health) = self.run(&["cluster", "health"]);
            let problems: Vec<String> =
                serde_json::from_value(health["problems"].clone()).unwrap_or_default();
            let is_named = |what: &&str| problems.iter().any(|problem| problem.contains(what));
            let is_expected =
                |problem: &&String| named.iter().chain(beside).any(|what| problem.contains(what));
            if named.iter().all(is_named) && problems.iter().all(|problem| is_expected(&problem)) {
                assert_eq!(code, Some(if named.is_empty() { 0 } else { 10 }));
                assert_eq!(health["healthy"], named.is_empty());
                return problems;
            }
            assert!(began.elapsed() < PATIENCE, "{named:?} is not what is wrong: {problems:#?}");
        }
    }

    fn until_healthy(&self) {
        self.until_named(&[], &[]);
    }

    /// How many partitions of `t` are under-replicated.
    fn under_replicated(&self) -> usize {
        let (_, listed) = self.run(&["partition", "list", "--topic", "t"]);
        let all = listed.as_array().expect("a list");
        assert_eq!(all.len(), PARTITIONS);
        all.iter().filter(|partition| partition["under_replicated"] == true).count()
    }
}

impl Drop for Three {
    fn drop(&mut self) {
        for child in self.brokers.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_death_is_a_few_lines_and_health_names_what_is_left() {
    let mut three = Three::start();
    assert_eq!(three.under_replicated(), 0);
    let before = three.log(1).len();
    three.kill(3);
    let problems = three.until_named(&["node 3 does not answer", "node 3 is not in sync in"], &[]);
    assert!(
        problems.iter().any(|problem| problem.contains("t/0, t/1, t/10 and 9 more")
            || problem.contains("t/0, t/1, t/2 and 9 more")),
        "{problems:?}"
    );
    assert_eq!(three.under_replicated(), PARTITIONS);
    let began = monotonic();
    while !three.log(1)[before..].contains("leaders changed") {
        assert!(began.elapsed() < PATIENCE, "{}", three.log(1));
    }
    let log = three.log(1)[before..].to_owned();
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("WARN") + lines("ERROR"), 1, "{log}");
    assert_eq!(lines("peer is down"), 1, "{log}");
    assert!(lines("leaders changed") <= 3 && lines(" leads t/") >= 1, "{log}");
    assert!(log.lines().count() <= 8, "not a line for each partition: {log}");
    assert!(!three.log(1).contains("group="), "{}", three.log(1));

    // It is tried again and again, and said once.
    three.start_one(3, &[]);
    three.until_healthy();
    assert_eq!(three.under_replicated(), 0);
    three.kill(1);
    three.kill(2);
    let before = three.log(3).len();
    three.kill(3);
    three.start_one(3, &[]);
    let began = monotonic();
    let said = |log: &str| log.matches("cannot be reached").count();
    while said(&three.log(3)[before..]) < 2 {
        assert!(began.elapsed() < PATIENCE, "{}", three.log(3));
    }
    three.start_one(1, &[]);
    three.start_one(2, &[]);
    three.until_healthy();
    assert_eq!(said(&three.log(3)[before..]), 2, "of each peer once: {}", three.log(3));
}

#[test]
fn what_is_wrong_with_one_broker_is_named() {
    let mut three = Three::start();
    // Rot under a stopped broker: one replica is closed.
    let (_, described) = three.run(&["topic", "describe", "t"]);
    let group = described["partitions"][4]["group"].as_u64().expect("a group");
    three.kill(2);
    let segment = three.data_dir(2).join(format!("groups/{group}/0000000000000001.segment"));
    let mut bytes = std::fs::read(&segment).expect("there");
    bytes[0] ^= 1;
    std::fs::write(&segment, bytes).expect("writable");
    three.start_one(2, &["--disk-reserve", "1024TiB"]);
    // A full disk hands over what it leads; whether that leaves the leaders uneven is a warning.
    three.until_named(&["node 2 has closed t/4", "it takes no records"], &[]);
    assert_eq!(three.under_replicated(), 1);
    let (_, topics) = three.run(&["topic", "list"]);
    assert_eq!(topics[0]["partitions"][4]["under_replicated"], true);
    assert!(three.log(2).contains("partition=\"t/4\""), "{}", three.log(2));

    // Descriptors run out: the limit comes down to what is open.
    let child = three.brokers[0].as_ref().expect("it runs");
    let pid = rustix::process::Pid::from_child(child);
    let open = std::fs::read_dir(format!("/proc/{}/fd", child.id())).expect("there").count() as u64;
    let limit = rustix::process::Rlimit { current: Some(open + 1), maximum: Some(open + 1) };
    rustix::process::prlimit(Some(pid), rustix::process::Resource::Nofile, limit).expect("it is ours");
    three.until_named(
        &["node 2 has closed t/4", "descriptors open"],
        &["takes no records", "does not", "not in sync"],
    );
}

#[test]
fn leaders_that_one_broker_has_all_are_told() {
    let three = Three::start();
    for partition in 0..PARTITIONS {
        let place = format!("t/{partition}");
        let began = monotonic();
        while three.run(&["partition", "transfer", &place, "--to", "1"]).0 != Some(0) {
            // It leads that one already, or a hand-over was under way.
            let (_, listed) = three.run(&["partition", "list", "--topic", "t"]);
            if listed[partition]["leader"] == 1 {
                break;
            }
            assert!(began.elapsed() < PATIENCE);
        }
    }
    let (code, health) = three.run(&["cluster", "health"]);
    assert_eq!((code, &health["healthy"]), (Some(0), &Value::Bool(true)), "{health}");
    assert!(health["warnings"][0].as_str().is_some_and(|text| text.contains("leads all 12")), "{health}");
}
