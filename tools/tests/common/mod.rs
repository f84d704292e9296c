//! A broker process, and commands to it.
#![allow(dead_code, reason = "every test file uses its part of this")]

pub mod three;

use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// One broker in a folder of its own. Dropping it kills it.
pub struct Broker {
    pub address: String,
    child: Child,
    folder: tempfile::TempDir,
}

impl Broker {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        drop(listener);
        let child = spawn(&address, folder.path());
        let broker = Self { address, child, folder };
        broker.wait();
        broker
    }

    /// One whose log, from this level on, is kept for [`Broker::log`].
    pub fn start_with_log(level: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        drop(listener);
        let log = std::fs::File::create(folder.path().join("log")).expect("made");
        let mut command = command(&address, folder.path());
        let child = command.args(["--log-level", level]).stderr(log).spawn().expect("the binary runs");
        let broker = Self { address, child, folder };
        broker.wait();
        broker
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("readable")
    }

    /// Where its Kafka listener is.
    pub fn kafka(&self) -> String {
        let address =
            std::fs::read_to_string(self.folder.path().join("data/kafka.addr")).expect("it listens");
        address.trim().to_owned()
    }

    /// The first command waits until the broker answers; then the cluster has to have formed.
    fn wait(&self) {
        while !self.run(&["cluster", "health"], b"").status.success() {
            assert!(self.run(&["cluster", "status"], b"").status.success(), "the broker answers");
        }
    }

    /// One of three brokers, of which the others never start: it answers, and nothing can be done.
    pub fn start_of_three() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let free = || std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let listeners = [free(), free(), free()];
        let addresses = listeners.map(|listener| listener.local_addr().expect("bound").to_string());
        let mut command = command(&addresses[0], folder.path());
        for (node, address) in (1..).zip(&addresses) {
            command.arg("--peer").arg(format!("{node}={address}"));
        }
        let child = command.args(["--log-level", "error"]).spawn().expect("the binary runs");
        let [address, ..] = addresses;
        let broker = Self { address, child, folder };
        assert!(broker.run(&["cluster", "status"], b"").status.success(), "the broker answers");
        broker
    }

    /// Stops it in its tracks: its connections stay, and nobody answers. Dropping it kills it all the same.
    pub fn pause(&self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::STOP).expect("it runs");
    }

    /// Kills it as by `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("ended");
    }

    /// Kills it as by `kill -9` and starts it again on its data.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.child = spawn(&self.address, self.folder.path());
        self.wait();
    }

    /// Starts it again on its data, with more on its command line.
    pub fn start_again(&mut self, more: &[&str]) {
        self.start_unwell(more);
        self.wait();
    }

    /// The same, if something is wrong with it.
    pub fn start_unwell(&mut self, more: &[&str]) {
        let mut command = command(&self.address, self.folder.path());
        self.child = command.args(["--log-level", "off"]).args(more).spawn().expect("the binary runs");
    }

    /// Starts it on its data, which does not work; what it says.
    pub fn refuses_to_start(&self) -> String {
        let mut command = command(&self.address, self.folder.path());
        let output = command.args(["--log-level", "error"]).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// What health says, once it names this problem.
    pub fn unhealthy(&self, named: &str) -> String {
        loop {
            let output = self.run(&["cluster", "health"], b"");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(output.status.code(), Some(10), "{said}");
            if said.contains(named) {
                return said;
            }
        }
    }

    /// Starts a command and leaves it running. Its stdout is to be read.
    pub fn spawn(&self, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_raftline"))
            .args(["--brokers", &self.address])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs")
    }

    pub fn run(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_raftline"))
            .args(["--brokers", &self.address])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut pipe = child.stdin.take().expect("piped");
        let stdin = stdin.to_vec();
        let writer = std::thread::Builder::new().spawn(move || {
            // A command that fails early does not read everything.
            let _ = pipe.write_all(&stdin);
        });
        let output = child.wait_with_output().expect("ended");
        writer.expect("spawned").join().expect("joined");
        output
    }

    /// Runs a command that succeeds; its stdout.
    pub fn ok(&self, args: &[&str], stdin: &[u8]) -> Vec<u8> {
        let output = self.run(args, stdin);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    pub fn json(&self, args: &[&str], stdin: &[u8]) -> Value {
        let stdout = self.ok(&[args, &["-o", "json"]].concat(), stdin);
        serde_json::from_slice(&stdout).expect("one JSON document")
    }

    /// Runs a command that fails with exit code 1; its stderr.
    pub fn refused(&self, args: &[&str], stdin: &[u8]) -> String {
        let output = self.run(args, stdin);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The folder in which its data directory, `data`, lies.
    pub fn data(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(address: &str, folder: &Path) -> Child {
    command(address, folder).args(["--log-level", "error"]).spawn().expect("the binary runs")
}

fn command(address: &str, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftline"));
    command
        .args(["broker", "--dev", "--grpc", address, "--kafka", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(folder.join("data"))
        .stdin(Stdio::null());
    command
}
