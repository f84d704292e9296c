//! `raftline demo`, shortened: the README's promise.

use serde_json::Value;
use std::io::Write;
use std::process::Command;

#[test]
fn nothing_acknowledged_is_lost_when_a_leader_is_killed() {
    let mut input = tempfile::NamedTempFile::new().expect("a file");
    for number in 0..3000 {
        input.write_all(format!("line {number}\r \u{2028} \n").as_bytes()).expect("written");
    }
    input.write_all(b"\xff\xfe\n\nthe last line has no end").expect("written");
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_raftline"))
        .args(["demo", "--spread", "2", "-o", "json", "--input"])
        .arg(input.path())
        .env("TMPDIR", folder.path())
        .output()
        .expect("the binary runs");
    let story = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{story}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(report["verdict"], "held", "{report}");
    assert_eq!(report["acknowledged"], 3003);
    assert_eq!(report["findings"]["read"], 3003);
    assert!(report["pause_ms"].as_f64().is_some_and(|pause| pause > 0.0));
    let left = std::fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(left, 0, "nothing is left behind");
}
