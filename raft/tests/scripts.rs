//! Conversations of a small group as text: `raft/tests/scripts/*.txt`.
//!
//! A line that begins with `> ` is a command; the lines after it are everything that it led to. Comments and blank
//! lines stay. `REWRITE=1 cargo test -p raftline-raft --test scripts` writes what happens now into the files:
//! read the difference before you commit it. The commands are described in `script/stage.rs`.
#![allow(clippy::unwrap_used, reason = "a test may panic where it will")]

#[path = "support/mod.rs"]
mod support;

#[path = "script/stage.rs"]
mod stage;
#[path = "script/text.rs"]
mod text;

use std::fs;
use std::path::{Path, PathBuf};

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    paths
}

/// The script with what its commands lead to now.
fn play(script: &str) -> String {
    let mut stage = stage::Stage::default();
    let mut played = String::new();
    let mut in_outcome = false;
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            played.push_str(line);
            played.push('\n');
            for outcome in stage.command(command) {
                played.push_str("  ");
                played.push_str(&outcome);
                played.push('\n');
            }
            in_outcome = true;
        } else if in_outcome && line.starts_with("  ") {
            // The outcome as it was expected.
        } else {
            in_outcome = false;
            played.push_str(line);
            played.push('\n');
        }
    }
    played
}

/// The first line in which two texts differ, with what comes before it.
fn difference(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let same = expected.iter().zip(&found).take_while(|(expected, found)| expected == found).count();
    let context = expected[same.saturating_sub(4)..same].join("\n");
    let show = |lines: &[&str]| lines.iter().skip(same).take(6).copied().collect::<Vec<_>>().join("\n");
    format!("line {}:\n{context}\n--- expected\n{}\n--- found\n{}\n", same + 1, show(&expected), show(&found))
}

#[test]
fn conversations() {
    let rewrite = std::env::var("REWRITE").is_ok();
    let mut failures = Vec::new();
    let scripts = scripts();
    assert!(scripts.len() > 20, "the scripts are missing");
    for path in scripts {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        eprintln!("{name}");
        let expected = fs::read_to_string(&path).unwrap();
        let found = play(&expected);
        if found == expected {
            continue;
        }
        if rewrite {
            fs::write(&path, found).unwrap();
        } else {
            failures.push(format!("{name}, {}", difference(&expected, &found)));
        }
    }
    assert!(failures.is_empty(), "REWRITE=1 accepts what is found.\n\n{}", failures.join("\n"));
}
