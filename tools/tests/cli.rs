//! The command line without a cluster: what is refused, with which exit code, in which words.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs `raftline` with these arguments, with nothing on stdin.
fn raftline(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_raftline"))
        .args(args)
        .env_remove("RAFTLINE_BROKERS")
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

/// An address where nothing listens: a port that was free a moment ago.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

fn check(args: &[&str], code: i32, named: &[&str]) {
    let output = raftline(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    for name in named {
        assert!(stderr.contains(name), "{args:?} should name `{name}`: {stderr}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    check(&["nonsense"], 2, &["nonsense"]);
    check(&["topic", "create"], 2, &["NAME"]);
    check(&["topic", "create", "t", "--partitions", "0"], 2, &["--partitions"]);
    check(&["topic", "create", "t", "--config", "retention"], 2, &["NAME=VALUE"]);
    check(&["produce", "t", "--acks", "all"], 2, &["quorum", "memory", "leader", "none"]);
    check(&["consume", "t", "--from", "middle"], 2, &["start, end, an offset, or @TIME"]);
    check(&["consume", "t", "--from", "@noon"], 2, &["@2026-11-22"]);
    check(&["consume", "t", "-f", "%q"], 2, &["%q", "%s value"]);
    check(&["consume", "t", "-g", "g", "-p", "0"], 2, &["--group", "--partition"]);
    check(&["group", "reset", "g", "--to-latest"], 2, &["--topic"]);
    check(&["group", "reset", "g", "--topic", "t"], 2, &["--to-earliest", "--to-time"]);
    check(&["group", "reset", "g", "--topic", "t", "--to-latest", "--to-offset", "1"], 2, &["--to-offset"]);
    check(&["group", "reset", "g", "--topic", "t", "--to-time", "noon"], 2, &["2026-11-22"]);
    check(&["group", "list", "--state", "Sleeping"], 2, &["Sleeping", "Stable"]);
    check(&["partition", "describe", "orders"], 2, &["TOPIC/PARTITION"]);
    check(&["bench", "produce", "--size", "0"], 2, &["--size"]);
    check(&["bench", "produce", "--rate", "-1"], 2, &["rate"]);
    check(&["demo", "--nodes", "2"], 2, &["3..=9"]);
    check(&["log", "diff", "one"], 2, &["2"]);
    check(&["--timeout", "0", "topic", "list"], 2, &["seconds"]);
}

#[test]
fn a_cluster_that_is_not_there_is_named() {
    let address = nobody();
    let brokers = ["--brokers", &address, "--timeout", "0.2"];
    for command in [&["topic", "list"][..], &["cluster", "status"], &["consume", "t"], &["bench", "consume"]]
    {
        check(&[&brokers[..], command].concat(), 1, &[&address, "is the cluster up?"]);
    }
    check(&["--brokers", "nowhere", "topic", "list"], 1, &["HOST:GRPC_PORT"]);
}

#[test]
fn health_has_an_exit_code_of_its_own() {
    let address = nobody();
    let output = raftline(&["--brokers", &address, "--timeout", "0.2", "cluster", "health", "-o", "json"]);
    assert_eq!(output.status.code(), Some(10));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(document["healthy"], false);
    assert!(document["problems"][0].as_str().is_some_and(|problem| problem.contains(&address)));
}

#[test]
fn offline_commands_name_what_they_want() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().to_str().expect("UTF-8");
    check(&["log", "verify", path], 1, &[path, "data directory"]);
    check(&["log", "dump", "/nonexistent/folder"], 1, &["/nonexistent/folder"]);
    let damaged = dir.path().join("0000000000000001.segment");
    std::fs::File::create(&damaged).expect("created").write_all(&[7; 4096]).expect("written");
    check(&["log", "verify", path], 1, &["header"]);
}

#[test]
fn an_input_that_cannot_be_read_is_named() {
    check(&["demo", "--input", "/nonexistent/file"], 1, &["/nonexistent/file"]);
}

#[test]
fn a_variable_that_nobody_reads_is_told_by_both_programs() {
    for args in [&["log", "dump", "/nonexistent/folder"][..], &["broker", "--print-config"], &["broker"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_raftline"))
            .args(args)
            .env("RAFTLINE_PEERS", "1=a:1")
            .output()
            .expect("the binary runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("RAFTLINE_PEERS") && stderr.contains("RAFTLINE_PEER?"), "{args:?}: {stderr}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_raftline"))
        .args(["topic", "list"])
        .env("RAFTLINE_LOG", "inof")
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("`inof`"));
}

#[test]
fn every_command_has_help() {
    for command in [
        &["--help"][..],
        &["demo", "--help"],
        &["topic", "create", "--help"],
        &["produce", "--help"],
        &["consume", "--help"],
        &["cluster", "--help"],
        &["partition", "transfer", "--help"],
        &["bench", "e2e", "--help"],
        &["log", "dump", "--help"],
        &["broker", "--help"],
    ] {
        let output = raftline(command);
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        assert!(output.stdout.len() > 100, "{command:?}");
    }
}
