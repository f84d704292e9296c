//! What goes to stdout: one JSON document, or text for people.

use serde::Serialize;
use std::io::{self, Write};

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people. May change from version to version.
    #[default]
    Text,
    /// For programs: one document, or one a line where there is a stream of them.
    Json,
}

/// Prints a document on one line.
///
/// # Errors
/// Stdout is closed.
pub fn print_json(document: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string(document).map_err(io::Error::other)?;
    text.push('\n');
    print(&text)
}

/// Prints text as it is.
///
/// # Errors
/// Stdout is closed.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Rows under headings, in columns as wide as needed. Columns whose heading begins with `>` stand to the right.
pub fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut lines = vec![headings.iter().map(|heading| heading.trim_start_matches('>').to_owned()).collect()];
    lines.extend(rows.iter().cloned());
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).zip(headings);
        let cells = cells.map(|((cell, width), heading)| {
            if heading.starts_with('>') { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A size with a unit that leaves few digits.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let mut value = bytes as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A count with thousands apart.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A list of node numbers, or a dash.
pub fn nodes(nodes: &[u32]) -> String {
    if nodes.is_empty() {
        return "-".into();
    }
    nodes.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// A node number, or a dash.
pub fn node(node: Option<u32>) -> String {
    node.map_or_else(|| "-".into(), |node| node.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let rows = vec![vec!["a".into(), "1".into()], vec!["long".into(), "100".into()]];
        assert_eq!(table(&["NAME", ">COUNT"], &rows), "NAME  COUNT\na         1\nlong    100\n");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(64 << 20), "64.0 MiB");
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
    }
}
