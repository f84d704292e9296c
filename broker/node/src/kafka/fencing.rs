//! Which brokers clients are not told of: those that have been down for a while, as Kafka's controller fences them
//! (KIP-631).
//!
//! Kafka's controller decides this for the whole cluster. Here each broker goes by what it hears itself, and only while
//! it hears a majority. One that is cut off cannot tell whether it is the others that are gone. It goes on telling of
//! all, as a broker of Kafka's does that has lost its controller: a client that knows no other broker finds the rest of
//! the cluster through it once the network is whole again.

use super::Door;
use raftline_proto::ids::NodeId;
use std::collections::BTreeSet;
use std::time::Duration;

/// The brokers that clients are not told of at present. Never this one.
pub(super) fn fenced(door: &Door) -> BTreeSet<NodeId> {
    let (own, now) = (door.broker.identity.node(), door.broker.clock.monotonic());
    let brokers: BTreeSet<NodeId> = door.broker.view.image().brokers.keys().copied().collect();
    lapsed(&brokers, door.session_timeout, |node| {
        if node == own { Duration::ZERO } else { door.broker.view.silence(node, door.opened, now) }
    })
}

/// Whether clients are told of the broker.
pub(super) fn is_told(door: &Door, node: NodeId) -> bool {
    // Nearly all answer, so that nearly always this is enough.
    node == door.broker.identity.node() || door.broker.view.is_alive(node) || !fenced(door).contains(&node)
}

/// The brokers that were silent for the whole of `session_timeout`; none unless a majority was not.
fn lapsed(
    brokers: &BTreeSet<NodeId>,
    session_timeout: Duration,
    silence: impl Fn(NodeId) -> Duration,
) -> BTreeSet<NodeId> {
    let lapsed: BTreeSet<NodeId> =
        brokers.iter().copied().filter(|node| silence(*node) >= session_timeout).collect();
    if lapsed.len() * 2 < brokers.len() { lapsed } else { BTreeSet::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts which of the brokers 1, 2 … are fenced that were silent for so many seconds.
    fn check(silences: &[u64], expected: &[u32]) {
        let brokers = (1..).zip(silences).map(|(node, _)| NodeId(node)).collect();
        let silence = |node: NodeId| Duration::from_secs(silences[node.0 as usize - 1]);
        let found = lapsed(&brokers, Duration::from_secs(9), silence);
        let expected = expected.iter().copied().map(NodeId).collect();
        assert_eq!(found, expected, "silent for {silences:?}");
    }

    #[test]
    fn who_was_silent_for_a_session_is_fenced() {
        check(&[0, 0, 0], &[]);
        check(&[0, 8, 0], &[]);
        check(&[0, 9, 0], &[2]);
        // The third one may be back in a moment.
        check(&[0, 90, 8], &[2]);
        check(&[0, 0, 10, 0, 11], &[3, 5]);
    }

    #[test]
    fn without_a_majority_nobody_is_fenced() {
        check(&[0, 90, 9], &[]);
        check(&[0, 9], &[]);
        check(&[0, 9, 9, 0], &[]);
        check(&[0], &[]);
        check(&[], &[]);
    }
}
