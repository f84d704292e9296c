//! The run's story: always as a hash (same seed, same hash), and line by line when someone wants to read it.

use std::collections::VecDeque;
use std::fmt::Write as _;

use raftline_proto::ids::{GroupId, NodeId};
use raftline_proto::time::Monotonic;

/// The story so far.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    lines: Lines,
}

/// How much of the story is kept as text.
#[derive(Debug)]
enum Lines {
    Off,
    Last { lines: VecDeque<String>, bound: usize },
}

/// Where something happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// On which node; `None`: on a client, or in the world around.
    pub node: Option<NodeId>,
    /// To which group.
    pub group: Option<GroupId>,
}

impl Place {
    /// In the world around.
    pub const WORLD: Self = Self { node: None, group: None };

    /// On a node.
    #[must_use]
    pub const fn on(node: NodeId) -> Self {
        Self { node: Some(node), group: None }
    }

    /// On a node's replica of a group.
    #[must_use]
    pub const fn at(node: NodeId, group: GroupId) -> Self {
        Self { node: Some(node), group: Some(group) }
    }
}

impl Trace {
    /// A trace of the hash only: what campaigns use.
    #[must_use]
    pub fn hash_only() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, lines: Lines::Off }
    }

    /// A trace that also keeps its last `bound` lines.
    #[must_use]
    pub fn with_lines(bound: usize) -> Self {
        Self { lines: Lines::Last { lines: VecDeque::new(), bound }, ..Self::hash_only() }
    }

    /// One event. `digest` stands for the detail in the hash; the detail itself is only made if lines are kept.
    pub fn event(
        &mut self,
        at: Monotonic,
        place: Place,
        what: &'static str,
        digest: u64,
        detail: impl FnOnce() -> String,
    ) {
        self.events += 1;
        let node = place.node.map_or(0, |node| u64::from(node.0) + 1);
        let group = place.group.map_or(0, |group| group.0 + 1);
        let name = what.bytes().fold(0_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        for part in [at.0, node, group, name, digest] {
            self.hash = mix(self.hash ^ part);
        }
        if let Lines::Last { lines, bound } = &mut self.lines {
            if lines.len() >= (*bound).max(1) {
                lines.pop_front();
            }
            lines.push_back(line(at, place, what, &detail()));
        }
    }

    /// Stands for everything that happened, in its order.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The lines kept, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        let kept = match &self.lines {
            Lines::Off => None,
            Lines::Last { lines, .. } => Some(lines.iter().map(String::as_str)),
        };
        kept.into_iter().flatten()
    }
}

/// Mixes 64 bits well enough that any difference in the story shows (the finaliser of splitmix64).
#[must_use]
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Fixed columns: seconds, node, group, what, detail.
fn line(at: Monotonic, place: Place, what: &str, detail: &str) -> String {
    let mut line = String::with_capacity(64 + detail.len());
    let node = place.node.map_or_else(|| "-".to_owned(), |node| format!("n{node}"));
    let group = place.group.map_or_else(|| "-".to_owned(), |group| format!("g{group}"));
    let (seconds, micros) = (at.0 / 1_000_000, at.0 % 1_000_000);
    write!(line, "{seconds:>4}.{micros:06} {node:<4} {group:<4} {what:<14} {detail}")
        .expect("writing to a string cannot fail");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(lines: usize, digests: &[u64]) -> Trace {
        let mut trace = Trace::with_lines(lines);
        for &digest in digests {
            trace.event(Monotonic(1_500_000), Place::at(NodeId(1), GroupId(2)), "send", digest, || {
                format!("digest {digest}")
            });
        }
        trace
    }

    #[test]
    fn the_hash_tells_stories_and_their_orders_apart() {
        assert_eq!(story(9, &[1, 2]).hash(), story(0, &[1, 2]).hash(), "keeping lines changes nothing");
        assert_ne!(story(9, &[1, 2]).hash(), story(9, &[2, 1]).hash());
        assert_ne!(story(9, &[1, 2]).hash(), story(9, &[1, 2, 3]).hash());
    }

    #[test]
    fn lines_have_fixed_columns_and_only_the_last_stay() {
        let trace = story(2, &[1, 2, 3]);
        let lines: Vec<&str> = trace.lines().collect();
        assert_eq!(
            lines,
            [
                "   1.500000 n1   g2   send           digest 2",
                "   1.500000 n1   g2   send           digest 3"
            ]
        );
    }
}
