//! A full disk: who has no room for records does not go on leading, if somebody else has.
//!
//! What is led here goes, group by group, to the best placed replica whose node has room. It is looked for again as long as
//! the disk is full: a hand-over may come to nothing, a node may get room, and this one may be elected once more.

use crate::group::{Group, Stage, Standing, Turn};
use crate::shard::Shard;
use crate::types::{DiskSpace, Effect};
use alloc::vec::Vec;
use raftline_proto::ids::{GroupId, NodeId};
use raftline_proto::time::Now;
use raftline_raft::types::Input;

impl Shard {
    /// The disk has room no more, or again.
    pub(crate) fn look_for_room<P>(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        self.room_wanted = match self.disk {
            DiskSpace::Enough => None,
            DiskSpace::Low { .. } => Some(now.monotonic),
        };
        self.tick_room(now, effects);
    }

    /// Hands over what is led here, if it is time.
    pub(crate) fn tick_room<P>(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        if self.room_wanted.is_none_or(|at| at > now.monotonic) {
            return;
        }
        self.room_wanted = Some(now.monotonic + self.config.timings.election_max);
        let led = self.groups.values().filter(|group| group.leading.is_some());
        let led: Vec<GroupId> = led.map(|group| group.id).collect();
        for id in led {
            self.touch(now, id, effects, |group, turn| group.hand_to_room(turn));
        }
    }
}

impl Group {
    fn hand_to_room<P>(&mut self, turn: &mut Turn<'_, P>) {
        if let Some(to) = self.heir_with_room(turn) {
            self.step(Input::Transfer { to: Some(to) }, turn);
        }
    }

    /// The follower that holds the most, of those whose nodes have room.
    fn heir_with_room<P>(&self, turn: &Turn<'_, P>) -> Option<NodeId> {
        let Stage::Open(raft) = &self.stage else { return None };
        let suits = |node: NodeId| {
            raft.membership().is_voter(node) && turn.peers.reaches(node, self.id) && turn.peers.has_room(node)
        };
        let followers = Standing::of(raft, self.leading, self.node).followers();
        followers
            .into_iter()
            .filter(|follower| suits(follower.node))
            .max_by_key(|follower| follower.matched)
            .map(|follower| follower.node)
    }
}
