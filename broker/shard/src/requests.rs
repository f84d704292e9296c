//! What clients ask of one group: produce, fetch, offsets, coordinator commands.

use crate::asking::Question;
use crate::coordinator::plan::{Plan, Situation, plan};
use crate::coordinator::{answer, at_round};
use crate::fetch::{Patience, Want};
use crate::group::{Body, Group, Stage, Standing, Turn};
use crate::limits::{FEATURE_LEVEL_MAX, PARKED_COMMANDS_MAX, PENDING_ENTRIES_MAX};
use crate::partition::Partition;
use crate::produce::{Admission, Receipt, Waiting, refuse};
use crate::tail::{Tail, TailBody, TailEntry};
use crate::types::{
    CoordinatorCommand, CoordinatorError, CoordinatorReply, Durability, Effect, FetchError, ProduceError,
    Reply, RequestId,
};
use alloc::vec;
use alloc::vec::Vec;
use raftline_proto::entry::{BatchInfo, EntryBody};
use raftline_proto::ids::{ClusterId, EntryId, Offset, Term};
use raftline_proto::limits::METADATA_RECORDS_MAX;
use raftline_proto::metadata::MetadataRecord;
use raftline_proto::payload::encode_metadata;
use raftline_proto::time::Monotonic;
use raftline_raft::types::{AckWanted, Input, ProposeError};

/// A produce as it came, without its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub request: RequestId,
    pub in_term: Option<Term>,
    pub batch: BatchInfo,
    pub durability: Durability,
    pub deadline: Monotonic,
}

impl Group {
    /// A client wants a batch appended.
    pub fn produce<P>(&mut self, order: Order, payload: P, turn: &mut Turn<'_, P>) {
        match self.admit(&order, turn) {
            Admission::Refused(why) => turn.effects.push(refuse(order.request, why)),
            Admission::Known(batch) => {
                let (base_offset, max_timestamp) = (batch.base_offset, batch.max_timestamp);
                let start_offset = self.tail.start_offset();
                let receipt = Receipt { base_offset, start_offset, max_timestamp, duplicate: true };
                self.answer_or_park(&order, batch.entry, receipt, turn);
            }
            Admission::Append => {
                let (base_offset, max_timestamp) = (self.tail.end_offset(), order.batch.max_timestamp);
                let start_offset = self.tail.start_offset();
                let receipt = Receipt { base_offset, start_offset, max_timestamp, duplicate: false };
                match self.propose(EntryBody::Data(order.batch), Some(payload), turn) {
                    Ok(entry) => self.answer_or_park(&order, entry, receipt, turn),
                    Err(error) => {
                        let why = self.why_not_proposed(error);
                        turn.effects.push(refuse(order.request, why));
                    }
                }
            }
        }
    }

    fn admit<P>(&self, order: &Order, turn: &Turn<'_, P>) -> Admission {
        let Body::Partition(partition) = &self.body else {
            return Admission::Refused(ProduceError::UnknownGroup);
        };
        match self.standing() {
            Some(standing)
                if standing.leads() && order.in_term.is_none_or(|term| term == standing.term()) =>
            {
                partition.admit(&order.batch, turn.intake, self.tail.pending().len())
            }
            Some(standing) => Admission::Refused(standing.not_leader_produce()),
            None => Admission::Refused(ProduceError::NotLeader { leader: None, term: Term::ZERO }),
        }
    }

    fn why_not_proposed(&self, error: ProposeError) -> ProduceError {
        match error {
            ProposeError::NotLeader { leader } => {
                let term = match &self.stage {
                    Stage::Open(raft) => raft.term(),
                    Stage::Opening(_) | Stage::Closed(_) => Term::ZERO,
                };
                ProduceError::NotLeader { leader, term }
            }
            ProposeError::Transferring { to: _ } | ProposeError::Busy | ProposeError::VotersDiffer => {
                ProduceError::Busy
            }
        }
    }

    fn answer_or_park<P>(&mut self, order: &Order, entry: EntryId, receipt: Receipt, turn: &mut Turn<'_, P>) {
        let Order { request, durability, deadline, .. } = *order;
        let Self { stage: Stage::Open(raft), body: Body::Partition(partition), leading, node, .. } = self
        else {
            // The proposal closed the group, which answered all who waited then; this one did not wait yet.
            turn.effects.push(refuse(request, ProduceError::LeadershipLost { leader: None }));
            return;
        };
        let waiting = Waiting { request, entry, receipt, durability, deadline };
        let standing = Standing::of(raft, *leading, *node);
        partition.answer_or_park(waiting, &standing, turn.effects);
        if !partition.memory.is_empty() {
            // Followers answer before their sync too, as long as somebody waits for that.
            raft.set_ack_wanted(AckWanted::Memory);
        }
    }

    /// A client wants records.
    pub fn fetch<P>(&mut self, want: Want, turn: &mut Turn<'_, P>) {
        if self.is_question(&want) {
            self.ask(Question::Fetch(want), turn);
            return;
        }
        let patience = patience(want.deadline, turn);
        match self.served() {
            Ok((partition, tail, standing)) => partition.fetch(want, patience, &standing, tail, turn.effects),
            Err(why) => turn.effects.push(refuse_fetch(want.request, why)),
        }
    }

    /// A read found too little.
    pub fn read_short<P>(&mut self, want: Want, found: (Offset, u64), turn: &mut Turn<'_, P>) {
        if self.is_question(&want) {
            // It has been elected anew since.
            self.ask(Question::Fetch(want), turn);
            return;
        }
        let patience = patience(want.deadline, turn);
        match self.served() {
            Ok((partition, tail, standing)) => {
                partition.read_short(want, found, patience, &standing, tail, turn.effects);
            }
            Err(why) => turn.effects.push(refuse_fetch(want.request, why)),
        }
    }

    /// A client waits no longer: its fetch is answered with what there is. It may have been answered already.
    pub fn hurry<P>(&mut self, request: RequestId, turn: &mut Turn<'_, P>) {
        if let Ok((partition, tail, standing)) = self.served() {
            partition.hurry_fetch(request, &standing, tail, turn.effects);
            partition.hurry_question(request, turn.effects);
        }
    }

    /// What serves readers, if the group is an open partition.
    pub fn served(&mut self) -> Result<(&mut Partition, &Tail, Standing<'_>), FetchError> {
        let Body::Partition(partition) = &mut self.body else { return Err(FetchError::UnknownGroup) };
        match &self.stage {
            Stage::Open(raft) => Ok((partition, &self.tail, Standing::of(raft, self.leading, self.node))),
            Stage::Opening(_) => Err(FetchError::NotLeader { leader: None, term: Term::ZERO }),
            Stage::Closed(closed) => Err(FetchError::Storage(closed.reason.clone())),
        }
    }

    /// Somebody wants something of the coordinator.
    pub fn coordinate<P>(
        &mut self,
        request: RequestId,
        command: &CoordinatorCommand,
        deadline: Monotonic,
        turn: &mut Turn<'_, P>,
    ) {
        if self.leading.is_some() {
            self.propose_first_records(turn);
        }
        if *command == CoordinatorCommand::AllocateProducerId && self.give_id(request, deadline, turn) {
            return;
        }
        match self.plan(command, turn) {
            // Whoever leads and has room decides. One that was replaced and has not heard of it would refuse by what was once.
            Err(error @ (CoordinatorError::NotLeader { .. } | CoordinatorError::Busy)) => {
                turn.effects.push(answer(request, Err(error)));
            }
            Err(error) => self.answer_once_sure(request, Err(error), deadline, turn),
            Ok((records, reply)) => {
                let entry = match records.is_empty() {
                    true => self.last_metadata(),
                    false => match self.propose_records(records, turn) {
                        Ok(entry) => Some(entry),
                        Err(error) => {
                            turn.effects.push(answer(request, Err(error)));
                            return;
                        }
                    },
                };
                match (entry, &self.stage, &mut self.body) {
                    (None, _, _) => self.answer_once_sure(request, Ok(reply), deadline, turn),
                    (Some(entry), Stage::Open(_), Body::Coordinator(coordinator)) => {
                        if let CoordinatorReply::ProducerId(first) = reply {
                            coordinator.take_ids(first, entry);
                        }
                        coordinator.parked.park(request, entry, deadline, reply);
                    }
                    // The proposal closed the group, which answered all who waited then.
                    (Some(_), Stage::Opening(_) | Stage::Closed(_), _) | (_, _, Body::Partition(_)) => {
                        turn.effects.push(answer(request, Err(CoordinatorError::OutcomeUnknown)));
                    }
                }
            }
        }
    }

    /// Answers what changes nothing once a majority has followed this leader since.
    fn answer_once_sure<P>(
        &mut self,
        request: RequestId,
        outcome: Result<CoordinatorReply, CoordinatorError>,
        deadline: Monotonic,
        turn: &mut Turn<'_, P>,
    ) {
        let (Stage::Open(raft), Body::Coordinator(coordinator)) = (&mut self.stage, &mut self.body) else {
            turn.effects.push(answer(request, Err(CoordinatorError::NotLeader { leader: None })));
            return;
        };
        match raft.confirm(turn.outputs) {
            Ok(round) => coordinator.unsure.park(request, at_round(round), deadline, outcome),
            Err(_) => {
                let leader = raft.leader();
                turn.effects.push(answer(request, Err(CoordinatorError::NotLeader { leader })));
            }
        }
        // The only voter confirms itself at once.
        self.carry_nothing(turn);
    }

    /// Gives a producer id out of the block that this leader has taken; `false` if there is none left.
    fn give_id<P>(&mut self, request: RequestId, deadline: Monotonic, turn: &mut Turn<'_, P>) -> bool {
        let applied = self.tail.applied();
        let (Some(_), Body::Coordinator(coordinator)) = (self.leading, &mut self.body) else { return false };
        if coordinator.parked.len() >= PARKED_COMMANDS_MAX {
            return false;
        }
        let Some((id, entry)) = coordinator.next_id() else { return false };
        let reply = CoordinatorReply::ProducerId(id);
        if entry.index <= applied {
            turn.effects.push(answer(request, Ok(reply)));
        } else {
            coordinator.parked.park(request, entry, deadline, reply);
        }
        true
    }

    fn plan<P>(&self, command: &CoordinatorCommand, turn: &Turn<'_, P>) -> Plan {
        let Body::Coordinator(coordinator) = &self.body else {
            return Err(CoordinatorError::NotLeader { leader: None });
        };
        let Some(image) = coordinator.planned() else {
            let leader = match &self.stage {
                Stage::Open(raft) => raft.leader(),
                Stage::Opening(_) | Stage::Closed(_) => None,
            };
            return Err(CoordinatorError::NotLeader { leader });
        };
        let waiting = coordinator.parked.len() + coordinator.unsure.len();
        if waiting >= PARKED_COMMANDS_MAX || self.tail.pending().len() >= PENDING_ENTRIES_MAX {
            return Err(CoordinatorError::Busy);
        }
        let situation = Situation {
            image,
            alive: turn.peers.alive(),
            conditions: turn.peers.conditions(),
            defaults: turn.config.topic_defaults(),
        };
        let (records, reply) = plan(situation, command)?;
        // What cannot be written down is refused before it is proposed: an entry that no replica could read again
        // would stop them all.
        encode_metadata(&records).map_err(|_| CoordinatorError::LimitExceeded {
            what: "size of one metadata change",
            asked: records.len() as u64,
            max: METADATA_RECORDS_MAX as u64,
        })?;
        Ok((records, reply))
    }

    /// The last entry with metadata that is not committed yet: what a command without a change of its own waits for,
    /// so that it never confirms what may still be lost.
    fn last_metadata(&self) -> Option<EntryId> {
        let metadata = |entry: &&TailEntry| matches!(entry.body, TailBody::Metadata(_));
        self.tail.pending().rev().find(metadata).map(|entry| entry.id)
    }

    /// The first leader of a new cluster gives it its id.
    pub fn propose_first_records<P>(&mut self, turn: &mut Turn<'_, P>) {
        let Body::Coordinator(coordinator) = &self.body else { return };
        if coordinator.planned().is_some_and(|image| image.cluster.is_none()) {
            let id = ClusterId(turn.config.cluster_id_seed);
            let name = turn.config.cluster_name.clone();
            let record = MetadataRecord::Cluster { id, name, feature_level: FEATURE_LEVEL_MAX };
            // If it is refused as busy, the next command tries again.
            let _proposed = self.propose_records(vec![record], turn);
        }
    }

    fn propose_records<P>(
        &mut self,
        records: Vec<MetadataRecord>,
        turn: &mut Turn<'_, P>,
    ) -> Result<EntryId, CoordinatorError> {
        let entry =
            self.propose(EntryBody::Metadata(records.clone()), None, turn).map_err(|error| match error {
                ProposeError::NotLeader { leader } => CoordinatorError::NotLeader { leader },
                ProposeError::Transferring { to: _ } | ProposeError::Busy | ProposeError::VotersDiffer => {
                    CoordinatorError::Busy
                }
            })?;
        if let Body::Coordinator(coordinator) = &mut self.body {
            coordinator.proposed(&records);
        }
        Ok(entry)
    }

    /// Answers requests whose time is over, and lets the engine look at the clock.
    pub fn tick<P>(&mut self, turn: &mut Turn<'_, P>) {
        self.step(Input::Tick, turn);
        self.say_stepped_down(turn);
        let now = turn.now.monotonic;
        match &mut self.body {
            Body::Coordinator(coordinator) => coordinator.time_out(now, turn.effects),
            Body::Partition(partition) => {
                partition.time_out_produces(now, turn.effects);
                partition.time_out_deletions(now, turn.effects);
                if let Stage::Open(raft) = &self.stage {
                    let standing = Standing::of(raft, self.leading, self.node);
                    partition.time_out_fetches(now, &standing, &self.tail, turn.effects);
                    partition.time_out_questions(now, &standing, turn.effects);
                }
            }
        }
    }
}

/// Whether a fetch may still wait.
pub(crate) fn patience<P>(deadline: Monotonic, turn: &Turn<'_, P>) -> Patience {
    match deadline <= turn.now.monotonic || turn.intake.draining {
        true => Patience::Answer,
        false => Patience::Wait,
    }
}

/// The refusal of a fetch.
pub(crate) fn refuse_fetch<P>(request: RequestId, why: FetchError) -> Effect<P> {
    Effect::Reply { request, reply: Reply::Fetched(Err(why)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ShardConfig, Timings, TopicDefaults};
    use crate::coordinator::configs::Settings;
    use crate::peers::Peers;
    use crate::produce::Intake;
    use crate::types::{DiskSpace, LogConfig, OpenedGroup};
    use alloc::boxed::Box;
    use alloc::collections::BTreeMap;
    use alloc::string::String;
    use raftline_proto::ids::{
        BootId, GroupId, HardState, Incarnation, Index, NodeId, PartitionIndex, TopicId,
    };
    use raftline_proto::time::{Now, Timestamp};
    use raftline_raft::types::LogStart;

    const NODE: NodeId = NodeId(1);
    const REQUEST: RequestId = RequestId(1);

    fn config() -> ShardConfig {
        ShardConfig {
            shard: 0,
            shards: 1,
            node: NODE,
            incarnation: Incarnation(1),
            boot: BootId(1),
            peers: vec![NODE],
            cluster_name: String::from("test"),
            cluster_id_seed: 1,
            seed: 1,
            timings: Timings::default(),
            in_flight_bytes_max: crate::limits::IN_FLIGHT_BYTES_MAX,
            defaults: TopicDefaults::default(),
        }
    }

    /// What `act` makes the only replica of a group do that has just won its election, where the shard's view of the
    /// log's end has gone astray: whatever is proposed cannot be appended and closes the group.
    fn astray(
        id: GroupId,
        body: Body,
        act: impl FnOnce(&mut Group, &mut Turn<'_, ()>),
    ) -> (Group, Vec<Effect<()>>) {
        let config = config();
        let peers = Peers::new(NODE);
        let (mut outputs, mut effects) = (Vec::new(), Vec::new());
        let mut turn = Turn {
            now: Now::default(),
            config: &config,
            intake: Intake { disk: DiskSpace::Enough, draining: false },
            peers: &peers,
            outputs: &mut outputs,
            effects: &mut effects,
        };
        let mut group =
            Group::new(id, NODE, vec![NODE], LogConfig { segment_bytes: 4096, segment_ms: 1000 }, body);
        group.opened(OpenedGroup::default(), &mut turn);
        group.step(Input::Tick, &mut turn);
        let hard_state = HardState { term: Term(1), voted_for: Some(NODE) };
        group.step(Input::HardStateDurable { hard_state }, &mut turn);
        assert_eq!(group.leading, Some(Term(1)));
        group.tail.begin(LogStart { previous: EntryId::new(Term(1), Index(10)), offset: Offset::ZERO });
        turn.effects.clear();
        act(&mut group, &mut turn);
        (group, effects)
    }

    fn replies(effects: &[Effect<()>]) -> Vec<&Reply> {
        let reply = |effect| {
            let &Effect::Reply { request: REQUEST, ref reply } = effect else { return None };
            Some(reply)
        };
        effects.iter().filter_map(reply).collect()
    }

    #[test]
    fn a_produce_that_closes_the_group_is_answered() {
        let settings = Settings::of(&BTreeMap::new());
        let partition = Partition::new(TopicId(1), PartitionIndex(0), settings);
        for durability in [Durability::Quorum, Durability::Memory, Durability::Leader, Durability::None] {
            let batch = BatchInfo {
                batch_bytes: 100,
                record_count: 1,
                base_timestamp: Timestamp(0),
                max_timestamp: Timestamp(0),
                producer: None,
            };
            let deadline = Monotonic(1_000_000);
            let order = Order { request: REQUEST, batch, durability, in_term: None, deadline };
            let partition = Partition::new(partition.topic, partition.index, settings);
            let body = Body::Partition(Box::new(partition));
            let (group, effects) = astray(GroupId(1), body, |group, turn| group.produce(order, (), turn));
            assert!(matches!(group.stage, Stage::Closed(_)));
            let lost = Reply::Produced(Err(ProduceError::LeadershipLost { leader: None }));
            assert_eq!(replies(&effects), [&lost], "{durability:?}");
        }
    }

    #[test]
    fn a_command_that_closes_the_group_is_answered() {
        let body = Body::Coordinator(Box::default());
        let (group, effects) = astray(GroupId::COORDINATOR, body, |group, turn| {
            group.coordinate(REQUEST, &CoordinatorCommand::AllocateProducerId, Monotonic(1_000_000), turn);
        });
        assert!(matches!(group.stage, Stage::Closed(_)));
        assert_eq!(replies(&effects).len(), 1);
        assert_eq!(group.deadline(), Some(Monotonic::ZERO + Timings::default().election_min));
    }
}
