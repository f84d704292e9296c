//! What a majority has reached.

use raftline_proto::ids::{Membership, NodeId};
use raftline_proto::limits::VOTERS_MAX;

/// The greatest value that a majority of the voters has reached, each voter's own given by `reached`
/// (Raft §5.3: "a majority of matchIndex\[i\] ≥ N"). The default where nobody votes. Learners do not count.
pub(crate) fn majority_reached<T: Copy + Default + Ord>(
    membership: &Membership,
    mut reached: impl FnMut(NodeId) -> T,
) -> T {
    let count = membership.voters.len();
    if count == 0 {
        return T::default();
    }
    assert!(count <= VOTERS_MAX, "memberships are checked when they come in");
    let mut values = [T::default(); VOTERS_MAX];
    for (slot, voter) in values.iter_mut().zip(&membership.voters) {
        *slot = reached(*voter);
    }
    let values = &mut values[..count];
    values.sort_unstable();
    // Ascending, the entry at `count - quorum` has `quorum` voters at or above it.
    values[count - membership.quorum()]
}

/// Whether the voters that satisfy `holds` are a majority.
pub(crate) fn is_majority(membership: &Membership, mut holds: impl FnMut(NodeId) -> bool) -> bool {
    let count = membership.voters.iter().filter(|voter| holds(**voter)).count();
    count >= membership.quorum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use raftline_proto::ids::Index;

    fn check(reached: &[u64], expected: u64) {
        let voters: Vec<NodeId> = (1..).zip(reached).map(|(node, _)| NodeId(node)).collect();
        let membership = Membership::of_voters(voters);
        let index = |node: NodeId| Index(reached[node.get() as usize - 1]);
        assert_eq!(majority_reached(&membership, index), Index(expected), "{reached:?}");
        for bar in 0..12 {
            let holds = is_majority(&membership, |node| index(node) >= Index(bar));
            // The dumb twin: an index is reached by a majority exactly if that many are at or above it.
            assert_eq!(holds, Index(bar) <= majority_reached(&membership, index) && !reached.is_empty());
        }
    }

    #[test]
    fn majorities_of_all_sizes() {
        check(&[], 0);
        check(&[7], 7);
        check(&[7, 3], 3);
        check(&[7, 3, 5], 5);
        check(&[9, 9, 1, 1], 1);
        check(&[9, 9, 9, 1], 9);
        check(&[1, 2, 3, 4, 5], 3);
        check(&[5, 5, 5, 0, 0], 5);
        check(&[5, 5, 0, 0, 0], 0);
    }
}
