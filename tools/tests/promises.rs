//! What messages tell an operator to do is done here, as they say it, and helps.

mod common;

use common::Broker;
use std::path::{Path, PathBuf};

const RECORDS: &[u8] = b"one\ntwo\nthree\n";

/// A broker that was stopped after some records were stored.
fn stopped() -> Broker {
    let mut broker = Broker::start();
    broker.ok(&["topic", "create", "t", "--partitions", "1"], b"");
    broker.ok(&["produce", "t"], RECORDS);
    broker.kill();
    broker
}

/// It starts, and has what was stored.
fn is_whole(broker: &mut Broker, more: &[&str]) {
    broker.start_again(more);
    assert_eq!(broker.ok(&["consume", "t", "--until-end"], b""), RECORDS, "{more:?}");
    broker.kill();
}

/// It does not start, and says all of this.
fn says(broker: &Broker, named: &[&str]) {
    let log = broker.refuses_to_start();
    for what in named {
        assert!(log.contains(what), "{log} should name `{what}`");
    }
}

fn aside(file: &Path) -> PathBuf {
    let kept = file.with_extension("kept");
    std::fs::copy(file, &kept).expect("copied");
    kept
}

#[test]
fn an_identity_file_is_put_back_and_adopted() {
    let mut broker = stopped();
    let file = broker.data().join("data/identity");
    let kept = broker.data().join("identity.kept");
    std::fs::copy(&file, &kept).expect("copied");
    std::fs::remove_file(&file).expect("there");
    says(&broker, &["no identity file", "--adopt-copy"]);
    std::fs::write(&file, b"nonsense").expect("written");
    says(&broker, &["is damaged", "made since the broker's last start", "--adopt-copy"]);
    std::fs::remove_file(&file).expect("there");
    std::fs::copy(&kept, &file).expect("copied");
    says(&broker, &["is a copy", "--adopt-copy"]);
    is_whole(&mut broker, &["--adopt-copy"]);
    is_whole(&mut broker, &[]);
}

#[test]
fn a_state_file_is_put_back() {
    let mut broker = stopped();
    let file = broker.data().join("data/shard-0/state");
    let kept = aside(&file);
    std::fs::remove_file(&file).expect("there");
    says(&broker, &["is missing", "put it back as it was"]);
    let mut bytes = std::fs::read(&kept).expect("readable");
    bytes.truncate(bytes.len() / 2);
    std::fs::write(&file, bytes).expect("written");
    says(&broker, &["put the file back as it was"]);
    std::fs::rename(&kept, &file).expect("renamed");
    is_whole(&mut broker, &[]);
}

#[test]
fn a_damaged_segment_is_put_back() {
    let mut broker = stopped();
    broker.start_again(&[]);
    let described = broker.json(&["topic", "describe", "t"], b"");
    let group = described["partitions"][0]["group"].as_u64().expect("a group");
    broker.kill();
    let file = broker.data().join(format!("data/groups/{group}/0000000000000001.segment"));
    let kept = aside(&file);
    let mut bytes = std::fs::read(&file).expect("readable");
    bytes[0] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    broker.start_unwell(&[]);
    let health = broker.unhealthy("has closed t/0");
    assert!(health.contains("put the file back as it was, and start it"), "{health}");
    broker.kill();
    std::fs::rename(&kept, &file).expect("renamed");
    is_whole(&mut broker, &[]);
}

/// Every command that a message, a comment or a page names in backticks: the words after `raftline`.
fn named_commands() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["broker", "client", "docs", "storage", "tools/src"].map(|name| root.join(name)).into();
    let mut files = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("listed") {
            let path = entry.expect("listed").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs" || kind == "md") {
                files.push(path);
            }
        }
    }
    for file in files {
        let text = std::fs::read_to_string(&file).expect("text");
        for part in text.split('`').skip(1).step_by(2).chain(text.split('`').skip(2).step_by(2)) {
            if let Some(command) = part.strip_prefix("raftline ").filter(|command| !command.contains('\n')) {
                found.push((file.clone(), command.to_owned()));
            }
        }
    }
    found
}

#[test]
fn every_command_that_is_named_exists_with_its_flags() {
    let help = |words: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_raftline"))
            .args(words)
            .arg("--help")
            .output()
            .expect("the binary runs");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let named = named_commands();
    assert!(named.len() > 30, "{named:?}");
    for (file, command) in named {
        let words: Vec<&str> = command.split_whitespace().collect();
        let is_name = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let names: Vec<&str> = words.iter().take(2).take_while(is_name).copied().collect();
        // One word may be followed by its first argument: `consume t`.
        let text = help(&names).or_else(|| help(&names[..names.len().min(1)]));
        let Some(text) = text else { panic!("{}: `raftline {command}`: no such command", file.display()) };
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(
                text.contains(flag) || *flag == "--help",
                "{}: `raftline {command}` has no {flag}",
                file.display()
            );
        }
    }
}
