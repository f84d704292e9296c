//! `docs/kafka.md` says what is served, and names tests that exist.

use crate::client::Lone;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest};
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../../../docs/kafka.md");

/// The cells of the tables of one part of the page, without their heads.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let part = PAGE.split("\n## ").find(|part| part.starts_with(heading)).unwrap();
    let lines = part.lines().filter(|line| line.starts_with('|') && !line.starts_with("| ---"));
    lines.skip(1).map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_says_what_is_advertised() {
    let lone = Lone::start().await;
    let answer = lone.connect().await.ask(0, &ApiVersionsRequest::default()).await;
    let advertised = answer.api_keys.iter().map(|line| {
        let name = format!("{:?}", ApiKey::try_from(line.api_key).unwrap());
        match (line.min_version, line.max_version) {
            (only, same) if only == same => (name, only.to_string()),
            (min, max) => (name, format!("{min}–{max}")),
        }
    });
    let said = rows("APIs").into_iter().map(|cells| {
        assert_eq!(cells.len(), 4, "{cells:?}");
        assert!(!cells[2].is_empty(), "{}: what is different from Kafka, or –", cells[0]);
        (cells[0].to_owned(), cells[1].to_owned())
    });
    assert_eq!(said.collect::<Vec<_>>(), advertised.collect::<Vec<_>>());
    lone.stop().await;
}

/// Every source file of the broker.
fn sources() -> Vec<PathBuf> {
    let broker = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut folders: Vec<PathBuf> = ["node", "kafka", "shard"].map(|folder| broker.join(folder)).to_vec();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != "corpus" {
                folders.push(path);
            } else if name.ends_with(".rs") {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn every_named_test_is_there() {
    let files = sources();
    let is_there = |module: &str, function: &str| {
        let of_module = files.iter().filter(|path| path.file_stem().is_some_and(|stem| stem == module));
        let declared = format!("fn {function}(");
        let is_test = |text: String| {
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            lines.windows(2).any(|pair| pair[0].contains("test") && pair[1].contains(&declared))
        };
        of_module.filter_map(|path| fs::read_to_string(path).ok()).any(is_test)
    };
    let headings = [
        "APIs",
        "Connections",
        "Who leads, and who is in sync",
        "Brokers that are down",
        "Errors",
        "Regular expressions",
        "The records of groups",
    ];
    for heading in headings {
        let rows = rows(heading);
        assert!(!rows.is_empty(), "{heading}");
        for cells in rows {
            let tests: Vec<_> =
                cells.last().unwrap().split(", ").map(|test| test.trim_matches('`')).collect();
            for test in tests {
                let (module, function) = test.split_once("::").unwrap_or_else(|| panic!("{test}: {cells:?}"));
                assert!(is_there(module, function), "there is no test {test}, named for {}", cells[0]);
            }
        }
    }
}
