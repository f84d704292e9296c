//! Follows what the node's [`Pulse`](crate::pulse::Pulse) finds out about peers, group by group.

use crate::group::Group;
use crate::shard::Shard;
use crate::types::{Effect, LivenessChange};
use alloc::vec::Vec;
use raftline_proto::ids::{GroupId, NodeId};
use raftline_proto::time::Now;
use raftline_raft::types::Input;

impl Shard {
    /// The pulse found something out about a peer.
    pub(crate) fn follow_liveness<P>(
        &mut self,
        now: Now,
        node: NodeId,
        change: LivenessChange,
        effects: &mut Vec<Effect<P>>,
    ) {
        let shared: Vec<GroupId> =
            self.groups.values().filter(|group| group.has_member(node)).map(|group| group.id).collect();
        let was = self.peers.clone();
        self.peers.follow(node, change.clone());
        for id in shared {
            let (before, after) = (was.reaches(node, id), self.peers.reaches(node, id));
            if node == self.config.node {
                // The thread of this shard goes on, as it hears of it, but its disk does not: nothing that it leads can be
                // counted on.
                if before && !after {
                    self.touch(now, id, effects, Group::resign);
                }
                continue;
            }
            let input = match (before, after, &change) {
                (false, true, _) => Input::PeerUp { node },
                (true, false, _) => Input::PeerDown { node },
                (true, true, LivenessChange::Reset) => Input::PeerReset { node },
                _ => continue,
            };
            self.touch(now, id, effects, |group, turn| group.step(input, turn));
        }
    }
}
