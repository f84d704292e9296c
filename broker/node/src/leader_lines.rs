//! What the log says of changed leaders: what changes within a moment is one line, however many partitions it is. A node's
//! death moves all that it led.

use raftline_proto::ids::{GroupId, NodeId};
use raftline_proto::time::Monotonic;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Changes that have not been told yet.
#[derive(Debug, Default)]
pub(crate) struct LeaderLines(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// When the first of them came.
    since: Option<Monotonic>,
    /// Who leads each group now.
    leaders: BTreeMap<GroupId, NodeId>,
}

/// Changes are gathered for so long: elections after a death take about as long.
const GATHERED: Duration = Duration::from_millis(1000);

/// So many partitions of each leader are named, the others counted.
const NAMED: usize = 3;

impl LeaderLines {
    /// Another leader leads the group.
    pub(crate) fn note(&self, group: GroupId, leader: NodeId, now: Monotonic) {
        // Right after every step: a panic elsewhere has broken nothing.
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.since.get_or_insert(now);
        waiting.leaders.insert(group, leader);
    }

    /// What is to be told now.
    pub(crate) fn due(&self, now: Monotonic) -> Option<BTreeMap<GroupId, NodeId>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.since.is_none_or(|since| now.since(since) < GATHERED) {
            return None;
        }
        waiting.since = None;
        Some(std::mem::take(&mut waiting.leaders))
    }
}

/// `node 2 leads t/0, t/1 and 12 more; node 3 leads u/4`.
pub(crate) fn line(leaders: &BTreeMap<GroupId, NodeId>, names: &HashMap<GroupId, String>) -> String {
    let mut led: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
    for (group, leader) in leaders {
        let name = names.get(group).cloned().unwrap_or_else(|| format!("group {group}"));
        led.entry(*leader).or_default().push(name);
    }
    let mut text = String::new();
    for (node, mut places) in led {
        let separator = if text.is_empty() { "" } else { "; " };
        let more = places.len().saturating_sub(NAMED);
        places.truncate(NAMED);
        let _ = write!(text, "{separator}node {node} leads {}", places.join(", "));
        if more > 0 {
            let _ = write!(text, " and {more} more");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_within_a_moment_is_one_line() {
        let lines = LeaderLines::default();
        let at = |ms| Monotonic::ZERO + Duration::from_millis(ms);
        for group in 1..=5 {
            lines.note(GroupId(group), NodeId(2), at(group * 10));
        }
        lines.note(GroupId(5), NodeId(3), at(70));
        assert_eq!(lines.due(at(900)), None);
        let due = lines.due(at(1010)).expect("a second after the first");
        let names = (1..=4).map(|group| (GroupId(group), format!("t/{group}"))).collect();
        assert_eq!(line(&due, &names), "node 2 leads t/1, t/2, t/3 and 1 more; node 3 leads group 5");
        assert_eq!(lines.due(at(5000)), None);
    }
}
