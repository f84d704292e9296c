//! Draining: before the process stops, leaderships are handed over, so that nobody has to notice its absence first.

use crate::group::{Body, Group, Stage, Standing, Turn};
use crate::shard::Shard;
use crate::types::Effect;
use alloc::vec::Vec;
use raftline_proto::ids::{GroupId, NodeId};
use raftline_proto::time::{Monotonic, Now};
use raftline_raft::types::Input;

/// A drain under way, or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    /// Waits until nothing is led here, or until `limit`; asks again at `next`.
    Waiting { limit: Monotonic, next: Monotonic },
    /// Said to be done.
    Done,
}

impl Drain {
    pub fn deadline(&self) -> Option<Monotonic> {
        match self {
            Self::Waiting { limit, next } => Some(*limit.min(next)),
            Self::Done => None,
        }
    }
}

impl Shard {
    /// The process is to stop: refuse writes, answer readers, hand leaderships over.
    pub(crate) fn begin_drain<P>(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        if self.drain.is_some() {
            return;
        }
        let limit = now.monotonic + self.config.timings.drain_limit;
        self.drain = Some(Drain::Waiting { limit, next: now.monotonic });
        self.tick_drain(now, effects);
    }

    /// Hands over what is (still, or again) led here.
    pub(crate) fn tick_drain<P>(&mut self, now: Now, effects: &mut Vec<Effect<P>>) {
        let Some(Drain::Waiting { limit, next }) = self.drain else { return };
        if next > now.monotonic {
            return;
        }
        // A hand-over that came to nothing is given up by the engine after an election timeout: then ask again.
        let next = now.monotonic + self.config.timings.election_max;
        self.drain = Some(Drain::Waiting { limit, next });
        let ids: Vec<GroupId> = self.groups.keys().copied().collect();
        for id in ids {
            self.touch(now, id, effects, |group, turn| {
                group.answer_readers(turn);
                group.hand_over(None, turn);
            });
        }
        if limit <= now.monotonic {
            self.drained(effects);
        }
    }

    /// Says so once nothing is left to wait for.
    pub(crate) fn end_drain<P>(&mut self, effects: &mut Vec<Effect<P>>) {
        if let Some(Drain::Waiting { .. }) = self.drain {
            let alive = self.peers.alive();
            if !self.groups.values().any(|group| group.holds_up_drain(alive)) {
                self.drained(effects);
            }
        }
    }

    fn drained<P>(&mut self, effects: &mut Vec<Effect<P>>) {
        self.drain = Some(Drain::Done);
        self.note_all_commits(effects);
        effects.push(Effect::Drained);
    }
}

impl Group {
    /// Begins to hand leadership over; says whether a hand-over is under way.
    pub fn hand_over<P>(&mut self, to: Option<NodeId>, turn: &mut Turn<'_, P>) -> bool {
        if self.leading.is_none() {
            return false;
        }
        self.step(Input::Transfer { to }, turn);
        matches!(&self.stage, Stage::Open(raft) if raft.transferring().is_some())
    }

    fn answer_readers<P>(&mut self, turn: &mut Turn<'_, P>) {
        if let (Stage::Open(raft), Body::Partition(partition)) = (&self.stage, &mut self.body) {
            let standing = Standing::of(raft, self.leading, self.node);
            partition.answer_fetches(&standing, &self.tail, turn.effects);
        }
    }

    /// Whether a stop now would cost others an election timeout, or leave somebody without an answer that may come.
    fn holds_up_drain(&self, alive: &alloc::collections::BTreeSet<NodeId>) -> bool {
        let Stage::Open(raft) = &self.stage else { return false };
        let heir = |node: &NodeId| *node != self.node && alive.contains(node);
        let led = self.leading.is_some() && raft.membership().voters.iter().any(heir);
        let waiting = match &self.body {
            Body::Partition(partition) => partition.parked_writes() > 0,
            Body::Coordinator(coordinator) => !coordinator.parked.is_empty(),
        };
        led || waiting
    }
}
