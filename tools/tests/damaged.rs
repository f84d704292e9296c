//! The offline commands over damaged logs: what they find in a data directory they find in one group's directory, too.

mod common;

use common::Broker;
use raftline_tools::log::diff::compare_all;
use raftline_tools::log::place::find;
use raftline_tools::log::verify::{Checked, check};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A broker that was killed after a few acknowledged records, and the directory of the group that holds them.
fn killed() -> (Broker, PathBuf) {
    let mut broker = Broker::start();
    broker.ok(&["topic", "create", "t", "--partitions", "1"], b"");
    for _ in 0..3 {
        broker.ok(&["produce", "t"], b"one\ntwo\n");
    }
    let described = broker.json(&["topic", "describe", "t"], b"");
    let group = described["partitions"][0]["group"].as_u64().expect("a group");
    broker.kill();
    let dir = broker.data().join("data/groups").join(group.to_string());
    (broker, dir)
}

/// The bytes of the last entry go bad: the record batch that was acknowledged last.
fn damage(dir: &Path) {
    let place = find(dir, None).expect("a log").remove(0);
    let segments = place.open().expect("whole").recovery().segments.clone();
    let last = segments.last().expect("a segment");
    let mut bytes = std::fs::read(&last.file).expect("readable");
    let end = usize::try_from(last.end.expect("entries").1).expect("small");
    bytes[end - 12] ^= 1;
    std::fs::write(&last.file, bytes).expect("writable");
}

fn one(path: &Path) -> Checked {
    let mut places = find(path, None).expect("a log");
    assert_eq!(places.len(), 1);
    check(&places.remove(0))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}

fn verify(path: &Path) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_raftline"))
        .args(["log", "verify"])
        .arg(path)
        .output()
        .expect("the binary runs");
    (output.status.code(), String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn a_groups_own_directory_tells_what_the_whole_tells() {
    let (broker, dir) = killed();
    assert_eq!(one(&dir).damage, None);
    let other = tempfile::tempdir().expect("a folder");
    copy(broker.data(), other.path());
    damage(&dir);
    let found = one(&dir).damage.expect("the last entry is damaged");
    let whole = find(&broker.data().join("data"), None).expect("logs");
    let whole: Vec<String> = whole.iter().filter_map(|place| check(place).damage).collect();
    assert_eq!(whole, [found]);
    assert_eq!(verify(&dir).0, Some(1));

    // Replicas are compared in either way, and the damaged one does not hide how the others compare.
    let name = |of: &Path| of.join("data/groups").join(dir.file_name().expect("a name"));
    for dirs in [[dir.clone(), name(other.path())], [broker.data().join("data"), other.path().join("data")]] {
        let comparisons = compare_all(&dirs).expect("logs");
        let damaged = comparisons.values().filter(|comparison| comparison.damage.is_some()).count();
        assert_eq!(damaged, 1, "{comparisons:?}");
        assert!(
            comparisons.values().filter(|comparison| comparison.identical()).count() == comparisons.len() - 1
        );
    }
}

#[test]
fn a_log_without_its_state_file_is_not_called_sound() {
    let (_broker, dir) = killed();
    let apart = tempfile::tempdir().expect("a folder");
    let apart = apart.path().join("copy");
    copy(&dir, &apart);
    let (code, text) = verify(&apart);
    assert!(code == Some(0) && text.contains("whether its end is missing is unknown"), "{code:?} {text}");
    damage(&apart);
    let (code, text) = verify(&apart);
    assert!(code == Some(1) && text.contains("UNKNOWN") && text.contains("shard-N"), "{code:?} {text}");
}

#[test]
fn a_group_that_lost_its_segments_is_damaged() {
    let (broker, dir) = killed();
    for file in std::fs::read_dir(&dir).expect("listed") {
        std::fs::remove_file(file.expect("listed").path()).expect("removed");
    }
    assert!(one(&dir).damage.is_some());
    std::fs::remove_dir(&dir).expect("removed");
    let (code, text) = verify(&broker.data().join("data"));
    assert_eq!(code, Some(1));
    let gone = text.lines().filter(|line| line.contains("DAMAGED")).collect::<Vec<_>>();
    assert!(gone.len() == 1 && gone[0].contains(dir.to_str().expect("text")), "{text}");
}
