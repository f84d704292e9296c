//! Three broker processes of one cluster, and commands to it.

use raftline_tools::clock::monotonic;
use serde_json::Value;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Nothing here takes long; a test that waits for this has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Three broker processes. Dropping them kills them.
pub struct Three {
    folder: tempfile::TempDir,
    pub addresses: Vec<String>,
    pub brokers: Vec<Option<Child>>,
}

impl Three {
    /// With a topic `t` of so many partitions, which are on all of them.
    pub fn start(partitions: usize) -> Self {
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
        let partitions = partitions.to_string();
        three.run(&["topic", "create", "t", "--partitions", &partitions, "--replication", "3"]);
        three.until_healthy();
        three
    }

    pub fn start_one(&mut self, node: usize, more: &[&str]) {
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

    pub fn kill(&mut self, node: usize) {
        let mut child = self.brokers[node - 1].take().expect("it runs");
        child.kill().expect("it runs");
        child.wait().expect("ended");
    }

    pub fn data_dir(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("n{node}"))
    }

    pub fn log_file(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("n{node}.log"))
    }

    pub fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.log_file(node)).expect("readable")
    }

    /// Runs a command in JSON: its exit code and its document.
    pub fn run(&self, args: &[&str]) -> (Option<i32>, Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_raftline"))
            .args(["-o", "json", "--brokers", &self.addresses.join(",")])
            .args(args)
            .output()
            .expect("the binary runs");
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    /// What is wrong, once all of `named` is among it; and nothing else is, but for what names one of `beside`.
    pub fn until_named(&self, named: &[&str], beside: &[&str]) -> Vec<String> {
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

    pub fn until_healthy(&self) {
        self.until_named(&[], &[]);
    }

    /// How many partitions of `t` are under-replicated.
    pub fn under_replicated(&self) -> usize {
        let (_, listed) = self.run(&["partition", "list", "--topic", "t"]);
        let all = listed.as_array().expect("a list");
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
