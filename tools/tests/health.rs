//! `cluster health` and the log, on three brokers: what goes wrong is named, once, and by topic and partition.

mod common;

use common::three::{PATIENCE, Three};
use raftline_tools::clock::monotonic;
use serde_json::Value;

/// Enough that a line for each would be many.
const PARTITIONS: usize = 36;

#[test]
fn a_death_is_a_few_lines_and_health_names_what_is_left() {
    let mut three = Three::start(PARTITIONS);
    assert_eq!(three.under_replicated(), 0);
    let before = three.log(1).len();
    three.kill(3);
    let problems = three.until_named(&["node 3 does not answer", "node 3 is not in sync in"], &[]);
    assert!(problems.iter().any(|problem| problem.contains("t/0, t/1, t/2 and 33 more")), "{problems:?}");
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
    let mut three = Three::start(PARTITIONS);
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
    let three = Three::start(PARTITIONS);
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
    assert!(health["warnings"][0].as_str().is_some_and(|text| text.contains("leads all 36")), "{health}");
}
