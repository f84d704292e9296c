//! `--timeout` bounds every command: against a cluster of which only one broker in three is up, and a broker that is
//! stopped in its tracks.

mod common;

use common::Broker;
use common::three::Three;
use raftline_tools::clock::monotonic;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Seconds that each command is given.
const TIMEOUT: &str = "2";

/// What a command may take in all: its timeout, the grace that it gets on top, and what a busy machine makes of both.
const BOUND: Duration = Duration::from_secs(10);

/// Runs commands side by side; each fails in time, with this exit code. What they print.
fn fail_in_time<'a>(address: &str, commands: impl Iterator<Item = &'a &'a [&'a str]>, code: i32) -> String {
    let began = monotonic();
    let spawn = |args: &&'a [&'a str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_raftline"))
            .args(["--brokers", address, "--timeout", TIMEOUT])
            .args(*args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut pipe = child.stdin.take().expect("piped");
        // One that takes no lines may be gone by now.
        let _ = pipe.write_all(b"one\n");
        (*args, child)
    };
    let children: Vec<_> = commands.map(spawn).collect();
    let mut all = String::new();
    for (args, child) in children {
        let Output { status, stdout, stderr } = child.wait_with_output().expect("ended");
        let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(began.elapsed() < BOUND, "{args:?} took {:?}: {text}", began.elapsed());
        assert_eq!(status.code(), Some(code), "{args:?}: {text}");
        all.push_str(&text);
    }
    all
}

const HEALTH: &[&str] = &["cluster", "health"];

const COMMANDS: &[&[&str]] = &[
    &["produce", "t"],
    &["topic", "create", "u"],
    &["topic", "alter", "t", "--config", "retention.ms=1"],
    &["topic", "delete", "t"],
    &["partition", "transfer", "t/0"],
    &["consume", "t"],
    &["consume", "t", "--until-end"],
    &["consume", "t", "-g", "g"],
    &["consume", "t", "-g", "g", "--until-end"],
    &["group", "list"],
    &["group", "describe", "g"],
    &["group", "reset", "g", "--topic", "t", "--to-latest"],
    &["bench", "produce", "--topic", "t", "--duration", "1", "--warmup", "0"],
    &["bench", "consume", "--topic", "t"],
    &["bench", "e2e", "--topic", "t", "--duration", "1", "--warmup", "0"],
];

#[test]
fn a_broker_that_is_stopped_in_its_tracks_bounds_every_command() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t"], b"");
    broker.ok(&["produce", "t"], b"one\ntwo\n");
    broker.pause();
    let others: [&[&str]; 3] = [&["topic", "list"], &["topic", "describe", "t"], &["cluster", "status"]];
    fail_in_time(&broker.address, COMMANDS.iter().chain(&others), 1);
    fail_in_time(&broker.address, [HEALTH].iter(), 10);
}

#[test]
fn a_cluster_without_a_majority_bounds_every_command() {
    let broker = Broker::start_of_three();
    // A cluster that was never whole has no groups, and that much is known.
    let listed = |args: &&&[&str]| **args != ["group", "list"];
    fail_in_time(&broker.address, COMMANDS.iter().filter(listed), 1);
    let text = fail_in_time(&broker.address, [HEALTH].iter(), 10);
    assert!(text.contains("not formed"), "{text}");
}

#[test]
fn a_topic_that_lost_its_majority_bounds_every_command() {
    let mut three = Three::start(3);
    let (code, _) = three.run(&["produce", "t", "/dev/null"]);
    assert_eq!(code, Some(0));
    three.kill(2);
    three.kill(3);
    // What can be told without a majority is told: the broker that is left knows the topic, and its groups' topic is not made.
    let decided = |args: &&&[&str]| {
        args[0] == "produce" || (args[0] == "topic" && args[1] != "list") || args[0] == "bench"
    };
    fail_in_time(&three.addresses[0], COMMANDS.iter().filter(decided), 1);
    let text = fail_in_time(&three.addresses[0], [HEALTH].iter(), 10);
    assert!(text.contains("node 2 does not answer") && text.contains("has no leader"), "{text}");
}

#[test]
fn a_consumer_whose_broker_stops_ends_and_says_so() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t"], b"");
    let began = monotonic();
    let running: Vec<_> = [&["consume", "t"][..], &["consume", "t", "-g", "g"]]
        .into_iter()
        .map(|args| {
            let args = [&["--timeout", TIMEOUT], args].concat();
            let mut child = broker.spawn(&args);
            // It is at it once it has printed a record.
            let mut out = child.stdout.take().expect("piped");
            broker.ok(&["produce", "t", "-p", "0"], b"one\n");
            std::io::Read::read_exact(&mut out, &mut [0; 4]).expect("a record");
            (child, out)
        })
        .collect();
    broker.pause();
    for (mut child, _out) in running {
        assert_eq!(child.wait().expect("ended").code(), Some(1));
    }
    assert!(began.elapsed() < BOUND * 4);
}
