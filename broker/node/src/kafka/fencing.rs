//! The brokers as this one sees them: who answers, whose process is gone, and which of them clients are not told of, because
//! they have been down for a while, as Kafka's controller fences them (KIP-631).
//!
//! Kafka's controller decides this for the whole cluster. Here each broker goes by what it hears itself, and only while
//! it hears a majority. One that is cut off cannot tell whether it is the others that are gone. It goes on telling of
//! all, as a broker of Kafka's does that has lost its controller: a client that knows no other broker finds the rest of
//! the cluster through it once the network is whole again.
//!
//! Nor are brokers fenced that may lead what nobody else can: those out of reach that have the majority of a partition's
//! replicas between them. Clients may reach them although this broker does not. A broker whose host says that no such process
//! runs leads nothing.

use super::Door;
use raftline_proto::ids::NodeId;
use raftline_proto::time::Monotonic;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The brokers as this one sees them at one moment.
#[derive(Debug)]
pub(super) struct Outlook {
    own: NodeId,
    /// The peers that answer.
    heard: BTreeSet<NodeId>,
    /// Those whose hosts say that no such process runs.
    gone: BTreeSet<NodeId>,
    /// Those that clients are not told of. Never this one.
    fenced: BTreeSet<NodeId>,
}

/// The last outlook: with it the count of changes that it goes by, and when it was made.
pub(super) type LastOutlook = Option<(u64, Monotonic, Arc<Outlook>)>;

/// How things look at present.
pub(super) fn outlook(door: &Door) -> Arc<Outlook> {
    let view = &door.broker.view;
    let (change, now) = (view.change_count(), door.broker.clock.monotonic());
    let mut last = door.outlook.lock();
    if let Some((known, made, outlook)) = &*last
        && *known == change
        && now.since(*made) < OUTLOOK_AGE_MAX
    {
        return Arc::clone(outlook);
    }
    let outlook = Arc::new(look(door, now));
    *last = Some((change, now, Arc::clone(&outlook)));
    outlook
}

fn look(door: &Door, now: Monotonic) -> Outlook {
    let (own, view, image) = (door.broker.identity.node(), &door.broker.view, door.broker.view.image());
    let brokers: BTreeSet<NodeId> = image.brokers.keys().copied().collect();
    let fenced = lapsed(&brokers, door.session_timeout, |node| {
        if node == own { Duration::ZERO } else { view.silence(node, door.opened, now) }
    });
    let mut outlook = Outlook { own, heard: view.alive(), gone: door.broker.peers.gone(), fenced };
    if !outlook.fenced.is_empty() {
        let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
        for partition in partitions {
            for node in outlook.majority_out_of_reach(&partition.replicas) {
                outlook.fenced.remove(&node);
            }
        }
    }
    outlook
}

impl Outlook {
    /// Whether it is this broker.
    pub fn is_own(&self, node: NodeId) -> bool {
        node == self.own
    }

    /// Whether the broker answers, or is this one.
    pub fn hears(&self, node: NodeId) -> bool {
        node == self.own || self.heard.contains(&node)
    }

    /// Whether clients are told of the broker.
    pub fn tells(&self, node: NodeId) -> bool {
        !self.fenced.contains(&node)
    }

    /// Whether the broker's host says that no such process runs.
    pub fn is_gone(&self, node: NodeId) -> bool {
        node != self.own && !self.heard.contains(&node) && self.gone.contains(&node)
    }

    /// Where clients find out about a partition that can be led out of reach alone: the last leader, if it is there, else
    /// each of those there in turn. One that does not lead tells them who does, in a later epoch.
    pub fn where_led_out_of_reach(
        &self,
        replicas: &[NodeId],
        last: Option<NodeId>,
        now: Monotonic,
    ) -> Option<NodeId> {
        let there = self.majority_out_of_reach(replicas);
        let turn = usize::try_from(now.0 / TURN_MICROS).unwrap_or_default();
        let next = there.get(turn.checked_rem(there.len())?).copied();
        last.filter(|node| there.contains(node)).or(next)
    }

    /// The replicas that are out of reach, and not known to be gone, if they are a majority; else none.
    fn majority_out_of_reach(&self, replicas: &[NodeId]) -> Vec<NodeId> {
        let is_there = |node: &NodeId| !self.hears(*node) && !self.is_gone(*node);
        let there: Vec<NodeId> = replicas.iter().copied().filter(is_there).collect();
        if there.len() * 2 > replicas.len() { there } else { Vec::new() }
    }
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

/// An outlook is not made anew more often than this, unless the node's view has changed.
const OUTLOOK_AGE_MAX: Duration = Duration::from_millis(100);

/// For how long clients are sent to one of several brokers out of reach.
const TURN_MICROS: u64 = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts where clients of a partition with these replicas are sent by broker 3, which hears 4 and 5 and knows that
    /// broker 6's process is gone, after so many seconds.
    fn check_out_of_reach(replicas: &[u32], last: Option<u32>, seconds: u64, expected: Option<u32>) {
        let nodes = |nodes: &[u32]| nodes.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
        let outlook =
            Outlook { own: NodeId(3), heard: nodes(&[4, 5]), gone: nodes(&[6]), fenced: BTreeSet::new() };
        let replicas: Vec<NodeId> = replicas.iter().copied().map(NodeId).collect();
        let at = Monotonic::ZERO + Duration::from_secs(seconds);
        let found = outlook.where_led_out_of_reach(&replicas, last.map(NodeId), at);
        assert_eq!(found.map(|node| node.0), expected, "{replicas:?}, last led by {last:?}");
    }

    #[test]
    fn what_only_brokers_out_of_reach_can_lead_is_sought_there() {
        check_out_of_reach(&[1, 2, 3], Some(2), 0, Some(2));
        check_out_of_reach(&[1, 2, 3], Some(3), 0, Some(1));
        check_out_of_reach(&[1, 2, 3], None, 2, Some(2));
        check_out_of_reach(&[1, 3, 4], Some(1), 0, None);
        check_out_of_reach(&[1, 3], Some(1), 0, None);
        check_out_of_reach(&[1], None, 7, Some(1));
        check_out_of_reach(&[6], Some(6), 0, None);
        check_out_of_reach(&[1, 6, 3], Some(6), 0, None);
        check_out_of_reach(&[1, 6, 2], Some(6), 0, Some(1));
    }

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
