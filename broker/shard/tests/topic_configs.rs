//! `docs/topic-configs.md` says of every topic config what the table says.

use raftline_shard::coordinator::configs::table::REFUSED;
use raftline_shard::coordinator::configs::{CONFIG_KEYS, ConfigDefault, ConfigKind};

const PAGE: &str = include_str!("../../../docs/topic-configs.md");

/// The cells of the page's table rows whose first cell is a name in code marks.
fn rows() -> Vec<Vec<&'static str>> {
    let lines = PAGE.lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

#[test]
fn the_page_says_what_the_table_says() {
    let mut expected: Vec<Vec<String>> = Vec::new();
    for key in CONFIG_KEYS {
        let kind = match key.kind {
            ConfigKind::Boolean => "boolean",
            ConfigKind::Text => "string",
            ConfigKind::Int => "int",
            ConfigKind::Long => "long",
            ConfigKind::Double => "double",
            ConfigKind::List => "list",
        };
        let default = match key.default {
            ConfigDefault::Value("") => "empty".to_owned(),
            ConfigDefault::Value(value) => value.to_owned(),
            ConfigDefault::ReplicasAwaited => "a majority of the replicas".to_owned(),
        };
        let cells = [kind, &default, &key.values.text(), key.documentation];
        let cells = cells.map(str::to_owned);
        expected.push([vec![format!("`{}`", key.name)], cells.to_vec()].concat());
    }
    let found: Vec<_> = rows().into_iter().filter(|cells| cells.len() == 6).collect();
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found[..5], expected[..], "mend the page:\n| {} | … |\n", expected.join(" | "));
        assert!(!found[5].is_empty(), "{}: what is different from Kafka", found[0]);
    }
    assert_eq!(found.len(), expected.len(), "the page has as many rows as the table");
}

#[test]
fn the_page_says_what_is_refused() {
    let found: Vec<_> = rows().into_iter().filter(|cells| cells.len() == 2).collect();
    let expected: Vec<_> =
        REFUSED.iter().map(|(name, why)| vec![format!("`{name}`"), why.to_string()]).collect();
    assert_eq!(found, expected);
}
