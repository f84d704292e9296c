//! Feeds a group's engine and carries out what it says, as effects for the executor.

use crate::group::{Body, Group, Stage, Standing, Turn};
use crate::tail::{TailBody, TailError};
use crate::types::{DeleteError, DiskSpace, Effect, FetchError, ProduceError, ShardAlarm};
use alloc::vec::Vec;
use raftline_proto::entry::{EntryBody, EntryHeader, EntryInfo};
use raftline_proto::ids::{EntryId, Index, NodeId, Offset};
use raftline_raft::types::{AckWanted, Alarm, Entry, Input, LogStart, Message, Output, ProposeError, Role};

/// The payload that belongs to what is being fed to the engine.
pub(crate) enum Material<P> {
    /// None: the engine makes its own entries only.
    None,
    /// A proposal.
    Proposal { body: EntryBody, payload: Option<P> },
    /// A leader's entries.
    Entries { entries: Vec<EntryInfo>, payload: P },
}

impl Group {
    /// Feeds the engine with something that brings no payload.
    pub fn step<P>(&mut self, input: Input<'_>, turn: &mut Turn<'_, P>) {
        self.step_with(input, Material::None, turn);
    }

    fn step_with<P>(&mut self, input: Input<'_>, material: Material<P>, turn: &mut Turn<'_, P>) {
        let Stage::Open(raft) = &mut self.stage else { return };
        raft.step(turn.now.monotonic, input, turn.outputs);
        self.carry(material, turn);
    }

    /// Gives leadership up, to nobody in particular.
    pub fn resign<P>(&mut self, turn: &mut Turn<'_, P>) {
        let Stage::Open(raft) = &mut self.stage else { return };
        raft.resign(turn.now.monotonic, turn.outputs);
        self.carry_nothing(turn);
    }

    /// Proposes an entry.
    pub fn propose<P>(
        &mut self,
        body: EntryBody,
        payload: Option<P>,
        turn: &mut Turn<'_, P>,
    ) -> Result<EntryId, ProposeError> {
        let Stage::Open(raft) = &mut self.stage else { return Err(ProposeError::NotLeader { leader: None }) };
        let entry_bytes = raftline_proto::entry::HEADER_BYTES as u64 + u64::from(body.payload_bytes());
        let id = raft.propose(turn.now.monotonic, entry_bytes, None, turn.outputs)?;
        self.carry(Material::Proposal { body, payload }, turn);
        Ok(id)
    }

    /// Lets the engine send what the turn brought.
    pub fn flush<P>(&mut self, turn: &mut Turn<'_, P>) {
        let Stage::Open(raft) = &mut self.stage else { return };
        raft.flush(turn.now.monotonic, turn.outputs);
        self.carry(Material::None, turn);
    }

    /// A peer's message. The transport has checked who sent it, and the checksums of what came with it.
    pub fn message<P>(
        &mut self,
        from: NodeId,
        message: Message,
        (entries, payload): (Vec<EntryInfo>, Option<P>),
        turn: &mut Turn<'_, P>,
    ) {
        if let Err(alarm) = self.check_entries(&entries, payload.is_some()) {
            self.alarm(alarm, turn);
            return;
        }
        let plain: Vec<Entry> = entries.iter().map(plain_entry).collect();
        let input = Input::Message { from, message, entries: &plain };
        let material = match payload {
            Some(payload) if !entries.is_empty() => Material::Entries { entries, payload },
            Some(_) | None => Material::None,
        };
        self.step_with(input, material, turn);
    }

    /// What no honest leader sends, found before the engine takes it in.
    fn check_entries(&self, entries: &[EntryInfo], has_payload: bool) -> Result<(), ShardAlarm> {
        if !entries.is_empty() && !has_payload {
            return Err(ShardAlarm::Unexpected("entries came without their bytes"));
        }
        for entry in entries {
            let fits = match (&entry.body, &self.body) {
                (EntryBody::NoOp | EntryBody::Membership(_), _)
                | (EntryBody::Data(_) | EntryBody::Command(_) | EntryBody::Gap { .. }, Body::Partition(_))
                | (EntryBody::Metadata(_), Body::Coordinator(_)) => true,
                (
                    EntryBody::Data(_) | EntryBody::Command(_) | EntryBody::Gap { .. },
                    Body::Coordinator(_),
                )
                | (EntryBody::Metadata(_), Body::Partition(_)) => false,
            };
            if !fits {
                return Err(ShardAlarm::Unexpected(
                    "an entry of a kind that does not belong into this group",
                ));
            }
            if entry.header.group != self.id {
                return Err(ShardAlarm::Unexpected("an entry of another group"));
            }
        }
        for pair in entries.windows(2) {
            let (expected, found) = (pair[0].header.next_offset(), pair[1].header.base_offset);
            if expected != found {
                return Err(ShardAlarm::OffsetGap { entry: pair[1].header.id, expected, found });
            }
        }
        Ok(())
    }

    /// The disk kept nothing after `last`: what was to follow was never durable and never sent.
    pub fn append_failed<P>(&mut self, last: EntryId, next_offset: Offset, turn: &mut Turn<'_, P>) {
        let Stage::Open(_) = &self.stage else { return };
        for entry in self.tail.roll_back(last, next_offset) {
            self.body.dropped(&entry);
        }
        let lost = last.index.next();
        match &mut self.body {
            Body::Partition(partition) => {
                let why = match turn.intake.disk {
                    DiskSpace::Low { free_bytes, reserve_bytes } => {
                        ProduceError::DiskFull { free_bytes, reserve_bytes }
                    }
                    DiskSpace::Enough => ProduceError::Busy,
                };
                partition.refuse_produces_from(lost, &why, turn.effects);
                partition.refuse_deletions_from(lost, &DeleteError::Busy, turn.effects);
            }
            Body::Coordinator(coordinator) => {
                coordinator.refuse_from(lost, &crate::types::CoordinatorError::Busy, turn.effects);
            }
        }
        self.step(Input::AppendFailed { last }, turn);
    }

    /// Carries out what the engine has said, where that brings no payload.
    pub fn carry_nothing<P>(&mut self, turn: &mut Turn<'_, P>) {
        self.carry(Material::None, turn);
    }

    fn carry<P>(&mut self, mut material: Material<P>, turn: &mut Turn<'_, P>) {
        let mut outputs = core::mem::take(turn.outputs);
        let mut elected = false;
        for output in outputs.drain(..) {
            if let Stage::Closed(_) = self.stage {
                break;
            }
            elected |= self.carry_one(output, &mut material, turn);
        }
        outputs.clear();
        *turn.outputs = outputs;
        self.acknowledge_held(turn);
        if elected {
            self.propose_first_records(turn);
        }
    }

    /// Carries out one output; says whether it made this replica the leader.
    fn carry_one<P>(&mut self, output: Output, material: &mut Material<P>, turn: &mut Turn<'_, P>) -> bool {
        let group = self.id;
        match output {
            Output::SaveHardState(hard_state) => {
                turn.effects.push(Effect::SaveHardState { group, hard_state })
            }
            Output::Append(entry) => self.append(entry, material, turn),
            Output::Accept { skip } => self.accept(skip, material, turn),
            Output::Truncate { from } => self.truncate(from, turn),
            Output::Reset { start } => self.reset(start, turn),
            Output::Replicate { to, term, previous, from, up_to, bytes_max, commit, ack, round } => {
                let message = Message::Append { term, previous, commit, ack, round };
                turn.effects.push(Effect::Replicate { group, to, from, up_to, bytes_max, message });
            }
            Output::Send { to, message } => turn.effects.push(Effect::Send { group, to, message }),
            Output::Committed { through } => self.committed(through, turn),
            Output::Received { through } => {
                if let Body::Partition(partition) = &mut self.body {
                    partition.received = through;
                }
            }
            Output::Confirmed { through } => self.confirmed(through, turn),
            Output::RoleChanged { role, term, leader } => {
                turn.effects.push(Effect::LeaderChanged { group, term, leader, role });
                let leads = (role == Role::Leader).then_some(term);
                if self.leading != leads {
                    self.stop_leading(leader, turn);
                    self.leading = leads;
                    if leads.is_some() {
                        self.body.begin_leading(&self.tail);
                        return true;
                    }
                }
            }
            Output::MembershipChanged(_) => {}
            Output::Alarm(alarm) => self.raft_alarm(alarm, turn),
        }
        false
    }

    fn append<P>(&mut self, entry: Entry, material: &mut Material<P>, turn: &mut Turn<'_, P>) {
        let (body, payload) = match (entry.membership, core::mem::replace(material, Material::None)) {
            (Some(membership), kept) => {
                *material = kept;
                (EntryBody::Membership(membership), None)
            }
            (None, Material::Proposal { body, payload }) => (body, payload),
            (None, kept @ (Material::None | Material::Entries { .. })) => {
                *material = kept;
                (EntryBody::NoOp, None)
            }
        };
        let entry = EntryInfo::new(self.id, entry.id, self.tail.end_offset(), body);
        if self.push(&entry, turn) {
            turn.effects.push(Effect::Append { entry, payload });
        }
    }

    fn accept<P>(&mut self, skip: usize, material: &mut Material<P>, turn: &mut Turn<'_, P>) {
        let Material::Entries { entries, payload } = core::mem::replace(material, Material::None) else {
            self.quarantine_with(
                ShardAlarm::Unexpected("the engine accepts entries that did not come"),
                turn,
            );
            return;
        };
        let (skipped, taken) = entries.split_at(skip.min(entries.len()));
        let skip_bytes = skipped.iter().map(|entry| entry.header.entry_bytes()).sum();
        for entry in taken {
            if !self.push(entry, turn) {
                return;
            }
        }
        let entries: Vec<EntryHeader> = taken.iter().map(|entry| entry.header).collect();
        turn.effects.push(Effect::Accept { group: self.id, entries, skip_bytes, payload });
    }

    /// Takes the next entry of the log into the tail. One that does not follow closes the group.
    pub fn push<P>(&mut self, entry: &EntryInfo, turn: &mut Turn<'_, P>) -> bool {
        let pushed = match self.tail.push(entry) {
            Ok(pushed) => pushed,
            Err(TailError::Offset { entry, expected, found }) => {
                self.quarantine_with(ShardAlarm::OffsetGap { entry, expected, found }, turn);
                return false;
            }
            Err(TailError::Index { .. }) => {
                self.quarantine_with(ShardAlarm::Unexpected("an entry's index does not follow"), turn);
                return false;
            }
        };
        if let (Some(entry), Body::Partition(partition)) = (pushed, &mut self.body) {
            partition.appended(entry);
        }
        true
    }

    /// Retention let the log's prefix go.
    pub fn trimmed<P>(&mut self, start: LogStart, turn: &mut Turn<'_, P>) {
        self.tail.trimmed(start);
        self.step(Input::Trimmed { start }, turn);
    }

    fn truncate<P>(&mut self, from: Index, turn: &mut Turn<'_, P>) {
        for entry in self.tail.truncate(from) {
            self.body.dropped(&entry);
        }
        turn.effects.push(Effect::Truncate { group: self.id, from });
    }

    fn reset<P>(&mut self, start: LogStart, turn: &mut Turn<'_, P>) {
        if let Body::Coordinator(_) = &self.body {
            // Its log is never trimmed, so nobody can be behind its start.
            self.quarantine_with(ShardAlarm::Unexpected("a leader asks to drop the coordinator's log"), turn);
            return;
        }
        for entry in self.tail.truncate(self.tail.applied().next()) {
            self.body.dropped(&entry);
        }
        let applied = self.tail.applied();
        self.tail.reset(start);
        self.body.reset(start, applied);
        turn.effects.push(Effect::Reset { group: self.id, start });
    }

    fn committed<P>(&mut self, through: Index, turn: &mut Turn<'_, P>) {
        self.fold_committed(through, turn);
        self.note_producer_age(turn.now.monotonic);
        let Self { stage: Stage::Open(raft), tail, body: Body::Partition(partition), leading, node, .. } =
            self
        else {
            return;
        };
        if leading.is_some() {
            let standing = Standing::of(raft, *leading, *node);
            partition.wake_fetches(&standing, tail, turn.effects);
        }
        self.answer_questions(turn);
    }

    /// Applies what is committed, and acknowledges those who wait for exactly these entries.
    pub fn fold_committed<P>(&mut self, through: Index, turn: &mut Turn<'_, P>) {
        while let Some(entry) = self.tail.pop_committed(through) {
            if let TailBody::Command(command) = &entry.body {
                self.obey((entry.id.index, entry.base_offset), command, turn);
            }
            match &mut self.body {
                Body::Coordinator(coordinator) => {
                    coordinator.committed(&entry, turn.effects);
                    coordinator.acknowledge(&entry, turn.effects);
                }
                Body::Partition(partition) => {
                    partition.committed(&entry);
                    if let Stage::Open(raft) = &self.stage {
                        let standing = Standing::of(raft, self.leading, self.node);
                        partition.acknowledge(entry.id, &standing, turn.effects);
                        let told = (self.tail.start_offset(), standing.leader());
                        partition.acknowledge_deletions(entry.id, told, turn.effects);
                    }
                }
            }
        }
    }

    /// Acknowledges those who wait for less than a commit.
    fn acknowledge_held<P>(&mut self, turn: &mut Turn<'_, P>) {
        let Self { stage: Stage::Open(raft), body: Body::Partition(partition), leading, node, .. } = self
        else {
            return;
        };
        if leading.is_some() && !(partition.memory.is_empty() && partition.leader.is_empty()) {
            let standing = Standing::of(raft, *leading, *node);
            partition.acknowledge_held(&standing, turn.effects);
        }
        if partition.memory.is_empty() {
            raft.set_ack_wanted(AckWanted::Durable);
        }
    }

    /// Answers everybody who waits for this replica as the leader.
    pub fn stop_leading<P>(&mut self, leader: Option<NodeId>, turn: &mut Turn<'_, P>) {
        if self.leading.take().is_none() {
            return;
        }
        match &mut self.body {
            Body::Partition(partition) => {
                partition.received = Index::ZERO;
                partition.refuse_produces(&ProduceError::LeadershipLost { leader }, turn.effects);
                let lost = DeleteError::LeadershipLost { leader };
                partition.refuse_deletions_from(Index::ZERO, &lost, turn.effects);
                let term = match &self.stage {
                    Stage::Open(raft) => raft.term(),
                    Stage::Opening(_) | Stage::Closed(_) => raftline_proto::ids::Term::ZERO,
                };
                let why = FetchError::NotLeader { leader, term };
                partition.refuse_fetches(&why, turn.effects);
                partition.refuse_questions(&why, turn.effects);
            }
            Body::Coordinator(coordinator) => coordinator.stop_leading(turn.effects),
        }
    }

    fn raft_alarm<P>(&mut self, alarm: Alarm, turn: &mut Turn<'_, P>) {
        match alarm {
            // This replica's own state cannot be trusted any more.
            Alarm::TwoLeaders { .. } | Alarm::TruncateCommitted { .. } | Alarm::Lost { .. } => {
                self.quarantine_with(ShardAlarm::Raft(alarm), turn);
            }
            // The peer's word is not taken; nothing here is wrong.
            Alarm::MatchPastEnd { .. } | Alarm::MalformedAppend { .. } | Alarm::NoTermLeft { .. } => {
                self.alarm(ShardAlarm::Raft(alarm), turn)
            }
        }
    }

    fn quarantine_with<P>(&mut self, alarm: ShardAlarm, turn: &mut Turn<'_, P>) {
        let reason = alloc::format!("quarantined: {alarm:?}");
        self.alarm(alarm, turn);
        self.quarantine(&reason, turn);
    }
}

fn plain_entry(entry: &EntryInfo) -> Entry {
    let membership = match &entry.body {
        EntryBody::Membership(membership) => Some(membership.clone()),
        EntryBody::NoOp
        | EntryBody::Data(_)
        | EntryBody::Metadata(_)
        | EntryBody::Command(_)
        | EntryBody::Gap { .. } => None,
    };
    Entry { id: entry.header.id, entry_bytes: entry.header.entry_bytes(), membership }
}
