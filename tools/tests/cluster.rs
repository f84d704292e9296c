//! The commands against a broker process, as a person would type them one after the other.

mod common;

use common::Broker;
use serde_json::Value;

#[test]
fn every_byte_comes_back() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "bytes", "--partitions", "1"], b"");
    let mut input =
        b"carriage\rreturn\r\n\nno utf-8: \xff\xfe\0\nunicode \xe2\x80\xa8 line ends\x0b\x0c\x85\n".to_vec();
    input.extend(std::iter::repeat_n(b'x', 1_000_000));
    input.extend(b"\nthe last line has no end");
    let produced = broker.json(&["produce", "bytes"], &input);
    assert_eq!(produced["records"], 6);
    assert_eq!(produced["partitions"][0]["last_offset"], 5);
    let mut output = broker.ok(&["consume", "bytes", "--until-end"], b"");
    assert_eq!(output.pop(), Some(b'\n'), "consume ends every record with a newline");
    assert!(output == input, "the bytes differ");
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        broker.ok(&["produce", "packed", "-z", codec, "-p", "0"], &input);
    }
    let output = broker.ok(&["consume", "packed", "-p", "0", "--until-end", "-f", "%s\\n"], b"");
    assert!(output == [&input[..], b"\n"].concat().repeat(4), "the bytes differ");
}

#[test]
fn records_are_found_by_offset_time_and_key() {
    let broker = Broker::start();
    broker.ok(&["topic", "create", "t", "-p", "3"], b"");
    broker.ok(&["produce", "t", "--key-separator", ":", "-H", "source=test"], b"a:1\nb:2\na:3\nnone\n");
    let lines = |args: &[&str]| {
        let output = broker.ok(&[&["consume", "t", "--until-end"], args].concat(), b"");
        let mut lines: Vec<String> =
            String::from_utf8(output).expect("text").lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(
        lines(&["-f", "%k=%s %h\\n"]),
        ["=none source=test", "a=1 source=test", "a=3 source=test", "b=2 source=test"]
    );
    assert_eq!(lines(&["--from", "@-1h"]), ["1", "2", "3", "none"]);
    assert_eq!(lines(&["--from", "end"]), Vec::<String>::new());
    let partition = raftline_client::partition_of_key(b"a", 3).to_string();
    let of_partition = lines(&["-p", &partition, "-f", "%k%o %s\\n"]);
    assert!(of_partition.contains(&"a0 1".into()), "{of_partition:?}");
    assert_eq!(broker.ok(&["consume", "t", "-p", &partition, "-n", "1"], b""), b"1\n");
    let error = broker.refused(&["consume", "t", "-p", &partition, "--from", "99"], b"");
    assert!(error.contains("has no offset 99"), "{error}");
    let error = broker.refused(&["consume", "t", "--from", "99999999", "--until-end"], b"");
    assert!(error.contains("has no offset 99999999") && error.contains("start within"), "{error}");
    let document = broker.ok(&["consume", "t", "-n", "4", "-o", "json"], b"");
    let values: Vec<Value> = document
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("a document"))
        .collect();
    assert_eq!(values.len(), 4);
    assert!(values.iter().all(|record| record["headers"][0]["value"] == "test"));
}

#[test]
fn topics_are_made_changed_and_deleted() {
    let broker = Broker::start();
    let create = ["topic", "create", "orders", "-p", "2", "--config", "retention.ms=60000"];
    assert_eq!(broker.json(&create, b"")["partitions"], 2);
    assert!(broker.refused(&create, b"").contains("already"));
    assert_eq!(broker.json(&[&create[..], &["--if-not-exists"]].concat(), b"")["created"], false);
    for flag in ["--reset", "--config"] {
        let name = if flag == "--reset" { "nosuch" } else { "nosuch=1" };
        let error = broker.refused(&["topic", "alter", "orders", flag, name], b"");
        assert!(error.contains("Unknown topic config name: nosuch"), "{error}");
    }
    broker.ok(&["topic", "alter", "orders", "--partitions", "4", "--reset", "retention.ms"], b"");
    let described = broker.json(&["topic", "describe", "orders"], b"");
    assert_eq!(described["partitions"].as_array().expect("partitions").len(), 4);
    let retention = described["configs"]
        .as_array()
        .expect("configs")
        .iter()
        .find(|config| config["name"] == "retention.ms");
    assert_eq!(retention.expect("there")["is_default"], true);
    assert!(
        broker
            .refused(&["topic", "alter", "orders", "-c", "retention.ms=never"], b"")
            .contains("retention.ms")
    );
    assert!(broker.refused(&["topic", "alter", "orders"], b"").contains("--config"));
    assert!(broker.refused(&["topic", "create", "a/b"], b"").contains("a/b"));
    assert!(broker.refused(&["partition", "describe", "orders/7"], b"").contains("no partition 7"));
    assert_eq!(broker.json(&["partition", "describe", "orders/0"], b"")["replicas"][0]["role"], "leader");
    assert_eq!(broker.json(&["topic", "list"], b"")[0]["topic"], "orders");
    broker.ok(&["topic", "delete", "orders"], b"");
    assert!(broker.refused(&["topic", "describe", "orders"], b"").contains("orders"));
    assert_eq!(broker.json(&["cluster", "nodes"], b"")[0]["alive"], true);
}

#[test]
fn the_bench_measures_and_the_files_verify() {
    let broker = Broker::start();
    let short = ["--duration", "0.5", "--warmup", "0", "--size", "100", "--topic", "load"];
    let produced = broker.json(&[&["bench", "produce", "--rate", "2000"], &short[..]].concat(), b"");
    assert!(produced["records"].as_u64().expect("a count") > 0);
    assert!(produced["latency_us"]["p9999"].as_u64() >= produced["latency_us"]["p50"].as_u64());
    assert!(
        broker.json(&[&["bench", "e2e"], &short[..]].concat(), b"")["latency_us"]["p50"].as_u64() > Some(0)
    );
    let consumed = broker.json(&["bench", "consume", "--topic", "load"], b"");
    assert!(consumed["records"].as_u64() >= produced["records"].as_u64());
    let data = broker.data().join("data");
    let data = data.to_str().expect("UTF-8");
    let verified = broker.ok(&["log", "verify", data, "-o", "json"], b"");
    assert!(!verified.is_empty() && !String::from_utf8_lossy(&verified).contains("\"damage\":\""));
    let dumped = broker.ok(&["log", "dump", data, "--group", "0", "-o", "json"], b"");
    assert!(String::from_utf8_lossy(&dumped).contains("load"), "the coordinator's log names the topic");
    assert!(broker.refused(&["log", "dump", data, "--group", "99"], b"").contains("99"));
}
