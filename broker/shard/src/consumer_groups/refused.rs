//! An append that was not made, as on a full disk: what was planned on it is taken back, and the groups go on.

use super::Groups;
use super::leading::{Body, Leading};
use super::limits::REFUSED_PAUSE;
use super::log::{After, Refused};
use super::types::{GroupError, GroupResponse, Output};
use alloc::vec::Vec;
use raftline_proto::time::Now;

impl Groups {
    /// Nothing of what was appended and is not applied yet is in the log, nor ever will be. Groups that it was about are as
    /// what is committed says; members of classic groups, who live in memory, stay. Who waits for it is told
    /// `COORDINATOR_NOT_AVAILABLE`, which clients try again; who waits for others' records is answered.
    ///
    /// So heartbeats and fetches of offsets are answered, and a member whose commits are refused keeps its place.
    pub fn refused(&mut self, now: Now, outputs: &mut Vec<Output>) {
        let Some(mut leading) = self.leading(now, outputs) else { return };
        let refused = leading.turn.log.refuse();
        for id in &refused.groups {
            leading.take_back(id);
        }
        leading.answer_withheld(refused);
    }
}

impl Leading<'_> {
    fn take_back(&mut self, id: &str) {
        let now = self.turn.now.monotonic;
        let committed = Body::load(id, self.store, self.turn.config, now);
        let live = self.groups.take(id);
        let body = match (live, committed) {
            (Some(Body::Consumer(live)), Some(Body::Consumer(committed))) => {
                Some(Body::Consumer(live.taken_back(committed, now + REFUSED_PAUSE)))
            }
            // Its record is of its last generation; who has joined since is in memory alone.
            (Some(Body::Classic(live)), Some(Body::Classic(_)) | None) => Some(Body::Classic(live)),
            // It was about to change its protocol, or to go.
            (live, committed) => {
                let waiting = live.map(|mut body| body.take_waiting()).unwrap_or_default();
                for request in waiting {
                    self.turn.refuse(request, GroupError::CoordinatorNotAvailable);
                }
                committed
            }
        };
        if let Some(body) = body {
            self.groups.insert(id.into(), body);
        }
    }

    fn answer_withheld(&mut self, refused: Refused) {
        for after in refused.withheld {
            match after {
                After::Respond { request, group, response } => {
                    let records = refused.groups.contains(&group);
                    let offsets = refused.offsets.contains(&group);
                    if is_at_stake(&response, records, offsets) {
                        self.turn.refuse(request, GroupError::CoordinatorNotAvailable);
                    } else {
                        self.turn.respond(request, Ok(response));
                    }
                }
                After::Synced { group, generation } => {
                    if let Some(classic) = self.groups.classic(&group) {
                        classic.sync_failed(generation, &mut self.turn);
                    }
                    self.groups.rearm(&group);
                }
            }
        }
    }
}

/// Whether an answer tells of what was refused of its group: offsets, or other records.
const fn is_at_stake(response: &GroupResponse, records: bool, offsets: bool) -> bool {
    match response {
        GroupResponse::Partitions(_) => offsets,
        GroupResponse::Done => records || offsets,
        GroupResponse::Joined(_)
        | GroupResponse::Synced(_)
        | GroupResponse::Left(_)
        | GroupResponse::Offsets(_)
        | GroupResponse::Described(_)
        | GroupResponse::Listed(_)
        | GroupResponse::ConsumerHeartbeat(_)
        | GroupResponse::ConsumerDescribed(_) => records,
    }
}
