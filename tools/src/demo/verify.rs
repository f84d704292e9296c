//! The comparison: what was acknowledged against what is read back, record by record and byte for byte.

use super::load::{Fate, PartitionHistory};
use bytes::Bytes;
use raftline_client::proto::ids::{Offset, PartitionIndex};
use raftline_client::{Client, ConsumedRecord, ConsumerConfig, StartAt};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// What the comparison found. All but `read` and `unacknowledged_found` have to be 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Records read back.
    pub read: u64,
    /// Acknowledged, and not there.
    pub lost: u64,
    /// There more than once.
    pub duplicated: u64,
    /// There after a record of the same partition that was sent later.
    pub reordered: u64,
    /// There with other bytes, or at another offset than was acknowledged.
    pub altered: u64,
    /// There although it was said not to be stored, or never sent.
    pub unexpected: u64,
    /// There, and without an acknowledgement whose loss left the outcome open: allowed.
    pub unacknowledged_found: u64,
    /// The first things found wrong, for people.
    pub examples: Vec<String>,
}

impl Findings {
    /// Whether every promise held.
    pub fn good(&self) -> bool {
        let Self { lost, duplicated, reordered, altered, unexpected, .. } = self;
        [lost, duplicated, reordered, altered, unexpected].into_iter().all(|count| *count == 0)
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        const EXAMPLES_MAX: usize = 10;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text());
        }
    }
}

/// A record as far as the comparison needs it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its place.
    pub offset: Offset,
    /// The line number that its key names.
    pub line: Option<usize>,
    /// Its bytes.
    pub value: Option<Bytes>,
}

impl From<ConsumedRecord> for Found {
    fn from(record: ConsumedRecord) -> Self {
        let line = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()?.parse().ok());
        Self { offset: record.offset, line, value: record.value }
    }
}

/// Reads a partition from its first record to its present end.
///
/// # Errors
/// It cannot be read.
pub async fn read_back(
    client: &Client,
    topic: &str,
    partition: PartitionIndex,
) -> anyhow::Result<Vec<Found>> {
    let end = client.admin().offset(topic, partition, StartAt::End).await?;
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign(topic, partition, StartAt::Start);
    let mut found = Vec::new();
    while found.last().is_none_or(|last: &Found| last.offset.next() < end) && end > Offset::ZERO {
        found.push(Found::from(consumer.next().await?));
    }
    Ok(found)
}

/// Compares one partition and adds to the findings.
pub fn compare(history: &PartitionHistory, found: &[Found], lines: &[Bytes], findings: &mut Findings) {
    let places: HashMap<usize, usize> =
        history.sent.iter().enumerate().map(|(place, (line, _))| (*line, place)).collect();
    let mut seen = HashSet::new();
    let mut furthest = None;
    findings.read += found.len() as u64;
    for (position, record) in found.iter().enumerate() {
        let offset = record.offset;
        if offset.get() != position as u64 {
            findings.altered += 1;
            findings.example(|| format!("offset {offset} stands in place {position}: offsets are not dense"));
        }
        let Some((line, place)) = record.line.and_then(|line| Some((line, *places.get(&line)?))) else {
            findings.unexpected += 1;
            findings
                .example(|| format!("offset {offset} holds a record that was never sent to its partition"));
            continue;
        };
        if !seen.insert(line) {
            findings.duplicated += 1;
            findings.example(|| format!("line {line} is there twice, the second time at offset {offset}"));
            continue;
        }
        if furthest.is_some_and(|furthest| place < furthest) {
            findings.reordered += 1;
            findings.example(|| {
                format!("line {line} stands at offset {offset}, after lines that were sent later")
            });
        }
        furthest = furthest.max(Some(place));
        match &history.sent[place].1 {
            Fate::Stored(acknowledged) if *acknowledged != offset => {
                findings.altered += 1;
                findings.example(|| {
                    format!("line {line} was acknowledged at offset {acknowledged}, and is at {offset}")
                });
            }
            Fate::Stored(_) => {}
            Fate::Unknown(_) => findings.unacknowledged_found += 1,
            Fate::NotStored(why) => {
                findings.unexpected += 1;
                findings.example(|| {
                    format!("line {line} is at offset {offset}, and was said not to be stored: {why}")
                });
            }
        }
        if record.value.as_ref() != Some(&lines[line]) {
            findings.altered += 1;
            findings.example(|| format!("line {line} at offset {offset} has other bytes than were sent"));
        }
    }
    for (line, fate) in &history.sent {
        if let Fate::Stored(offset) = fate
            && !seen.contains(line)
        {
            findings.lost += 1;
            findings.example(|| format!("line {line} was acknowledged at offset {offset}, and is not there"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<Bytes> {
        (0..5).map(|number| Bytes::from(format!("line {number}"))).collect()
    }

    fn stored(offset: u64) -> Fate {
        Fate::Stored(Offset(offset))
    }

    fn found(offset: u64, line: usize) -> Found {
        Found { offset: Offset(offset), line: Some(line), value: Some(lines()[line].clone()) }
    }

    fn check(sent: Vec<(usize, Fate)>, found: &[Found]) -> Findings {
        let history = PartitionHistory { sent, ..PartitionHistory::default() };
        let mut findings = Findings::default();
        compare(&history, found, &lines(), &mut findings);
        findings
    }

    #[test]
    fn a_faithful_log_is_found_good() {
        let unknown = || Fate::Unknown("no answer".into());
        let findings =
            check(vec![(0, stored(0)), (2, unknown()), (4, stored(1))], &[found(0, 0), found(1, 4)]);
        assert!(findings.good(), "{findings:?}");
        let findings = check(
            vec![(0, stored(0)), (2, unknown()), (4, stored(2))],
            &[found(0, 0), found(1, 2), found(2, 4)],
        );
        assert!(findings.good() && findings.unacknowledged_found == 1, "{findings:?}");
    }

    #[test]
    fn every_broken_promise_is_found() {
        let both = || vec![(0, stored(0)), (1, stored(1))];
        assert_eq!(check(both(), &[found(0, 0)]).lost, 1);
        assert_eq!(check(both(), &[found(0, 0), found(1, 1), found(2, 1)]).duplicated, 1);
        assert_eq!(check(both(), &[found(0, 1), found(1, 0)]).reordered, 1);
        assert_eq!(check(both(), &[found(0, 0), found(5, 1)]).altered, 2);
        let mut altered = found(1, 1);
        altered.value = Some(Bytes::from_static(b"line X"));
        assert_eq!(check(both(), &[found(0, 0), altered]).altered, 1);
        assert_eq!(check(both(), &[found(0, 0), found(1, 1), found(2, 3)]).unexpected, 1);
        let refused = vec![(0, Fate::NotStored("too large".into()))];
        assert_eq!(check(refused, &[found(0, 0)]).unexpected, 1);
    }
}
