//! A Kafka client at the gRPC port, and `raftline` at Kafka's: closed at once, and told with both ports.

mod common;

use common::Broker;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

/// ApiVersions 0 with correlation id 7 and no client id, as kcat begins.
const API_VERSIONS: &[u8] = &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 255, 255];

fn closed_after(address: &str, first: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    stream.write_all(first).expect("taken");
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "closed at once"),
    }
}

#[test]
fn both_ports_are_named_to_whoever_comes_to_the_wrong_one() {
    let broker = Broker::start_with_log("warn");
    let (grpc, kafka) = (broker.address.clone(), broker.kafka());
    for _ in 0..3 {
        closed_after(&grpc, API_VERSIONS);
    }
    let output = Command::new(env!("CARGO_BIN_EXE_raftline"))
        .args(["--brokers", &kafka, "--timeout", "1", "topic", "list"])
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("came to Kafka's port") && said.contains(&kafka) && said.contains(&grpc), "{said}");
    closed_after(&kafka, b"GET / HTTP/1.1\r\n\r\n");

    assert_eq!(broker.json(&["topic", "list"], b""), serde_json::json!([]), "others are served");
    let log = broker.log();
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).collect::<Vec<_>>();
    let at_grpc = lines("a Kafka client came to the gRPC port");
    let at_kafka = lines("a gRPC client came to Kafka's port");
    for (lines, text) in [(&at_grpc, "at the gRPC port"), (&at_kafka, "at Kafka's port")] {
        assert_eq!(lines.len(), 1, "one line for those {text}: {log}");
        assert!(lines[0].contains(&grpc) && lines[0].contains(&kafka) && lines[0].contains("WARN"), "{log}");
    }
}
