//! The rules that hold the workspace together, checked on its own sources: who may import whom (DESIGN, "Crates and
//! who may import whom"), which crates stay pure, and how long a file may be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

/// Package, folder, and which of ours it may import.
const EDGES: [(&str, &str, &[&str]); 10] = [
    ("raftline-proto", "proto", &[]),
    ("raftline-raft", "raft", &["raftline-proto"]),
    ("raftline-storage", "storage", &["raftline-proto"]),
    ("raftline-shard", "broker/shard", &["raftline-proto", "raftline-raft"]),
    ("raftline-kafka", "broker/kafka", &["raftline-proto"]),
    (
        "raftline-broker",
        "broker/node",
        &["raftline-proto", "raftline-raft", "raftline-storage", "raftline-shard", "raftline-kafka"],
    ),
    ("raftline-client", "client", &["raftline-proto"]),
    ("raftline-tools", "tools", ANY),
    ("raftline-tests", "tests", ANY),
    ("raftline-benches", "benches", ANY),
];

/// May import any of ours but those that nobody imports.
const ANY: &[&str] = &[
    "raftline-proto",
    "raftline-raft",
    "raftline-storage",
    "raftline-shard",
    "raftline-kafka",
    "raftline-broker",
    "raftline-client",
    "raftline-tools",
];

/// Pure crates: no standard library, no unsafe code, no dependency that is not ours but those named here, which come
/// without the standard library too.
const PURE: [(&str, &[&str]); 2] = [("raft", &[]), ("broker/shard", &["regex-automata", "regex-syntax"])];

/// The only files that may hold unsafe code.
const UNSAFE_FILES: [&str; 1] = ["storage/src/map.rs"];

/// The longest a source file may be.
const FILE_LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a folder of the workspace")
        .to_owned()
}

fn manifest(folder: &str) -> Table {
    let path = root().join(folder).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of a manifest's dependencies in these tables, with how they are declared.
fn dependencies(manifest: &Table, tables: &[&str]) -> BTreeMap<String, toml::Value> {
    let of =
        |table: &&str| manifest.get(*table).and_then(|table| table.as_table()).cloned().unwrap_or_default();
    tables.iter().flat_map(of).collect()
}

/// Every source file of ours.
fn sources() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = EDGES.iter().map(|(_, folder, _)| root().join(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("a readable folder").path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".rs") && !files.contains(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Lines that match, as `file:line: text`.
fn lines_where(files: &[PathBuf], matches: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for path in files {
        let text = fs::read_to_string(path).expect("a readable source");
        let shown = path.strip_prefix(root()).unwrap_or(path).display().to_string();
        let hits = text.lines().enumerate().filter(|(_, line)| matches(line));
        found.extend(hits.map(|(number, line)| format!("{shown}:{}: {}", number + 1, line.trim())));
    }
    found
}

#[test]
fn crates_import_only_what_the_design_lets_them() {
    for (package, folder, allowed) in EDGES {
        let manifest = manifest(folder);
        let name = manifest["package"]["name"].as_str().expect("a name");
        assert_eq!(name, package, "{folder}/Cargo.toml");
        for dependency in
            dependencies(&manifest, &["dependencies", "build-dependencies", "dev-dependencies"]).keys()
        {
            let ours = dependency.starts_with("raftline");
            assert!(
                !ours || allowed.contains(&dependency.as_str()),
                "{package} imports {dependency}; the design allows it {allowed:?}"
            );
        }
    }
}

#[test]
fn every_member_of_the_workspace_is_in_the_table() {
    let workspace = manifest(".");
    let members = workspace["workspace"]["members"].as_array().expect("members");
    let mut members: Vec<&str> = members.iter().filter_map(|member| member.as_str()).collect();
    let mut known: Vec<&str> = EDGES.iter().map(|(_, folder, _)| *folder).collect();
    members.sort_unstable();
    known.sort_unstable();
    assert_eq!(members, known);
}

#[test]
fn protos_services_stand_behind_their_feature() {
    let manifest = manifest("proto");
    for (name, declared) in dependencies(&manifest, &["dependencies"]) {
        if ["prost", "tonic", "tonic-prost"].contains(&name.as_str()) {
            let optional = declared.get("optional").and_then(|optional| optional.as_bool());
            assert_eq!(optional, Some(true), "{name} must only come with the feature grpc");
        }
    }
}

#[test]
fn pure_crates_are_pure() {
    let workspace = manifest(".");
    for (folder, allowed) in PURE {
        let path = root().join(folder).join("src/lib.rs");
        let text = fs::read_to_string(&path).expect("a front door");
        for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
            assert!(
                text.lines().any(|line| line.trim() == attribute),
                "{folder}/src/lib.rs lacks {attribute}"
            );
        }
        for dependency in dependencies(&manifest(folder), &["dependencies", "build-dependencies"]).keys() {
            let is_ours = dependency.starts_with("raftline");
            assert!(
                is_ours || allowed.contains(&dependency.as_str()),
                "{folder} is pure and depends on {dependency}"
            );
            if !is_ours {
                let declared = &workspace["workspace"]["dependencies"][dependency];
                let with_std = declared.get("default-features").and_then(|default| default.as_bool());
                assert_eq!(with_std, Some(false), "{dependency} must come without its default features");
                let features = declared.get("features").and_then(|features| features.as_array());
                let has_std = features.is_some_and(|all| all.iter().any(|one| one.as_str() == Some("std")));
                assert!(!has_std, "{folder} is pure: {dependency} must come without std");
            }
        }
    }
    let pure =
        |path: &PathBuf| PURE.iter().any(|(folder, _)| path.starts_with(root().join(folder).join("src")));
    let files: Vec<PathBuf> = sources().into_iter().filter(pure).collect();
    let impure = lines_where(&files, |line| {
        let code = line.split("//").next().unwrap_or_default();
        ["HashMap", "HashSet", "std::time", "std::fs", "std::thread", "async fn"]
            .iter()
            .any(|word| code.contains(word))
    });
    assert!(impure.is_empty(), "impure: {impure:#?}");
}

#[test]
fn unsafe_code_stays_in_its_file() {
    let others: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|path| !UNSAFE_FILES.iter().any(|allowed| path.ends_with(allowed)))
        .collect();
    let found = lines_where(&others, |line| {
        let code = line.split("//").next().unwrap_or_default();
        ["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code)"]
            .iter()
            .any(|word| code.contains(word) && !code.contains('"'))
    });
    assert!(found.is_empty(), "unsafe code outside {UNSAFE_FILES:?}: {found:#?}");
}

#[test]
fn files_stay_readable() {
    let mut long = Vec::new();
    for path in sources() {
        let lines = fs::read_to_string(&path).expect("a readable source").lines().count();
        if lines > FILE_LINES_MAX {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(long.is_empty(), "a file over {FILE_LINES_MAX} lines has two ideas: {long:#?}");
}

#[test]
fn no_test_is_switched_off_and_nothing_is_left_to_do() {
    // Written apart, so that this file does not find itself.
    let words = [concat!("#[", "ignore"), concat!("todo", "!("), concat!("unimplemented", "!(")];
    let found = lines_where(&sources(), |line| words.iter().any(|word| line.contains(word)));
    assert!(found.is_empty(), "{found:#?}");
}
