//! Leadership transfer (thesis §3.10): the leader takes no proposals, waits until the target has everything, and asks
//! it to campaign at once. If the target does not take over within an election timeout, it goes on leading.

use crate::election::Transfer;
use crate::raft::{Raft, State};
use crate::types::{Message, Output};
use alloc::vec::Vec;
use raftline_proto::ids::{NodeId, Term};
use raftline_proto::time::Monotonic;

/// A hand-over under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandOver {
    /// To whom.
    pub(crate) to: NodeId,
    /// When it is given up.
    pub(crate) deadline: Monotonic,
    /// Whether the target was asked to campaign.
    asked: bool,
}

impl Raft {
    /// To whom leadership is being handed, if it is.
    #[must_use]
    pub fn transferring(&self) -> Option<NodeId> {
        match &self.state {
            State::Leader(leading) => leading.hand_over.map(|hand_over| hand_over.to),
            State::Follower(_) | State::PreCandidate(_) | State::Candidate(_) => None,
        }
    }

    /// Begins to hand over, to `to` or to the best placed voter. Without effect if this replica does not lead, if a
    /// hand-over is under way, or if the target is unsuitable: [`Self::transferring`] tells.
    pub(crate) fn on_transfer(&mut self, now: Monotonic, to: Option<NodeId>, outputs: &mut Vec<Output>) {
        let membership = self.log.membership();
        let State::Leader(leading) = &mut self.state else { return };
        if leading.hand_over.is_some() {
            return;
        }
        let suits = |node: NodeId, alive: bool| alive && membership.is_voter(node);
        let target = match to {
            Some(node) => leading.progress(node).filter(|progress| suits(progress.node, progress.alive)),
            None => leading
                .peers()
                .iter()
                .filter(|progress| suits(progress.node, progress.alive))
                .max_by_key(|progress| (progress.matched, progress.received)),
        };
        if let Some(target) = target.map(|progress| progress.node) {
            let deadline = now + self.config.election_timeout_max;
            leading.hand_over = Some(HandOver { to: target, deadline, asked: false });
            self.advance_transfer(outputs);
        }
    }

    /// Asks the target to campaign once it has everything, on stable storage: then it can win.
    pub(crate) fn advance_transfer(&mut self, outputs: &mut Vec<Output>) {
        let last = self.log.last().index;
        let State::Leader(leading) = &mut self.state else { return };
        let Some(hand_over) = leading.hand_over else { return };
        let has_all = leading.progress(hand_over.to).is_some_and(|progress| progress.matched == last);
        if has_all && !hand_over.asked {
            leading.hand_over = Some(HandOver { asked: true, ..hand_over });
            let message = Message::TimeoutNow { term: self.hard_state.term };
            outputs.push(Output::Send { to: hand_over.to, message });
        }
    }

    /// The leader wants this replica to take over.
    pub(crate) fn on_timeout_now(
        &mut self,
        now: Monotonic,
        from: NodeId,
        term: Term,
        outputs: &mut Vec<Output>,
    ) {
        // One that comes late, after the hand-over was given up, is obeyed: it costs an election and no safety, as
        // the vote is asked for like any other. One of an older term, or from somebody who does not lead, is not.
        let from_leader = term == self.hard_state.term && self.leader == Some(from);
        if from_leader && matches!(self.state, State::Follower(_)) && self.is_voter() {
            self.campaign(now, Transfer::Asked, outputs);
        }
    }
}
