//! Questions that only a leader may answer that is sure of itself: where the log begins and ends, where a leader's part of
//! it ends, whether an offset is out of range.
//!
//! Two things may be wrong with a leader. It may be new: until an entry of its own term is committed it does not know how
//! much of what its predecessors acknowledged is committed, and would name an end below that. Or it may be none any more:
//! one that was cut off, or stood still, hears of its successor late, and would name an end below what that one has
//! acknowledged. Consumers take the first for lost records and the second for the loss of their place.
//!
//! So a question waits until a majority has followed this leader after the question came, and until an entry of its own term
//! is committed. A plain fetch waits for the second alone: what it is given is committed in any case.

use crate::fetch::Want;
use crate::group::{Body, Group, Stage, Standing, Turn};
use crate::limits::PARKED_QUESTIONS_MAX;
use crate::partition::Partition;
use crate::tail::Tail;
use crate::types::{Effect, FetchError, FindBy, OffsetQuery, Reply, RequestId};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use raftline_proto::ids::{GroupId, Term};
use raftline_proto::time::Monotonic;
use raftline_raft::Raft;
use raftline_raft::types::Round;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Question {
    /// Records, from an offset that may be out of range or of a leader that may be too new to answer.
    Fetch(Want),
    /// An offset.
    Offset(RequestId, OffsetQuery),
}

/// Questions that wait.
///
/// Invariant: `by_request` and `by_deadline` hold exactly one item for each of `waiting`.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    /// By the round that confirms the leader for it.
    waiting: BTreeMap<(Round, RequestId), (Question, Monotonic)>,
    by_request: BTreeMap<RequestId, Round>,
    by_deadline: BTreeSet<(Monotonic, Round, RequestId)>,
    /// The latest round that was confirmed, in the present term of leadership.
    confirmed: Round,
}

impl Questions {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn first_deadline(&self) -> Option<Monotonic> {
        self.by_deadline.first().map(|(deadline, _, _)| *deadline)
    }

    fn park(&mut self, question: Question, round: Round, deadline: Monotonic) {
        let request = question.request();
        self.by_request.insert(request, round);
        self.by_deadline.insert((deadline, round, request));
        self.waiting.insert((round, request), (question, deadline));
    }

    fn take(&mut self, key: (Round, RequestId)) -> Option<Question> {
        let (question, deadline) = self.waiting.remove(&key)?;
        self.by_request.remove(&key.1);
        self.by_deadline.remove(&(deadline, key.0, key.1));
        Some(question)
    }

    fn take_confirmed(&mut self) -> Option<Question> {
        let key = *self.waiting.first_key_value()?.0;
        if key.0 <= self.confirmed { self.take(key) } else { None }
    }

    fn take_overdue(&mut self, now: Monotonic) -> Option<(Round, Question)> {
        let (deadline, round, request) = *self.by_deadline.first()?;
        if deadline > now {
            return None;
        }
        Some((round, self.take((round, request))?))
    }

    fn take_request(&mut self, request: RequestId) -> Option<Question> {
        let round = *self.by_request.get(&request)?;
        self.take((round, request))
    }

    fn take_any(&mut self) -> Option<Question> {
        let key = *self.waiting.first_key_value()?.0;
        self.take(key)
    }
}

impl Question {
    fn request(&self) -> RequestId {
        match self {
            Self::Fetch(want) => want.request,
            Self::Offset(request, _) => *request,
        }
    }

    /// The answer to one that is not answered.
    pub fn refuse<P>(&self, why: FetchError) -> Effect<P> {
        let reply = match self {
            Self::Fetch(_) => Reply::Fetched(Err(why)),
            Self::Offset(..) => Reply::Offset(Err(why)),
        };
        Effect::Reply { request: self.request(), reply }
    }
}

impl Group {
    /// Whether only a leader that is sure of itself may answer a fetch.
    pub fn is_question(&self, want: &Want) -> bool {
        match (&self.stage, &self.body) {
            (Stage::Open(raft), Body::Partition(_)) if self.leading.is_some() => {
                want.from > self.tail.end_offset() || !is_sure(raft, &self.tail)
            }
            (Stage::Opening(_) | Stage::Open(_) | Stage::Closed(_), _) => false,
        }
    }

    /// A client wants to know an offset.
    pub fn list_offset<P>(&mut self, request: RequestId, query: OffsetQuery, turn: &mut Turn<'_, P>) {
        self.ask(Question::Offset(request, query), turn);
    }

    /// Lets a question wait until this leader is sure of itself.
    pub fn ask<P>(&mut self, question: Question, turn: &mut Turn<'_, P>) {
        match self.served() {
            Err(why) => turn.effects.push(question.refuse(why)),
            Ok((_, _, standing)) if !standing.leads() => {
                turn.effects.push(question.refuse(standing.not_leader_fetch()));
            }
            Ok((partition, _, _)) if partition.questions.len() >= PARKED_QUESTIONS_MAX => {
                turn.effects.push(question.refuse(FetchError::Busy));
            }
            Ok(_) => self.park_question(question, turn),
        }
    }

    fn park_question<P>(&mut self, question: Question, turn: &mut Turn<'_, P>) {
        let Stage::Open(raft) = &mut self.stage else { return };
        let Ok(round) = raft.confirm(turn.outputs) else {
            let why = FetchError::NotLeader { leader: raft.leader(), term: raft.term() };
            turn.effects.push(question.refuse(why));
            return;
        };
        let waits = turn.config.timings.election_max * 2;
        let deadline = turn.now.monotonic + waits;
        let deadline = match question {
            // Other partitions of the same request wait for its answer.
            Question::Fetch(want) => (turn.now.monotonic + waits / 2).max(want.deadline),
            Question::Offset(..) => deadline,
        };
        if let Body::Partition(partition) = &mut self.body {
            partition.questions.park(question, round, deadline);
        }
        // The only voter confirms itself at once.
        self.carry_nothing(turn);
    }

    /// A majority followed this leader after round `through` had begun.
    pub fn confirmed<P>(&mut self, through: Round, turn: &mut Turn<'_, P>) {
        match &mut self.body {
            Body::Partition(partition) => partition.questions.confirmed = through,
            Body::Coordinator(coordinator) => coordinator.confirmed(through, turn.effects),
        }
        self.answer_questions(turn);
    }

    /// Answers those that nothing stands in the way of any more.
    pub fn answer_questions<P>(&mut self, turn: &mut Turn<'_, P>) {
        let Self {
            stage: Stage::Open(raft), body: Body::Partition(partition), tail, leading, node, id, ..
        } = self
        else {
            return;
        };
        if !is_sure(raft, tail) {
            return;
        }
        let standing = Standing::of(raft, *leading, *node);
        while let Some(question) = partition.questions.take_confirmed() {
            match question {
                Question::Fetch(want) => {
                    let patience = crate::requests::patience(want.deadline, turn);
                    partition.fetch(want, patience, &standing, tail, turn.effects);
                }
                Question::Offset(request, query) => {
                    turn.effects.push(offset(*id, request, query, raft.term(), tail));
                }
            }
        }
    }
}

/// Whether this leader knows how much is committed, and the tail is that far: the engine is ahead of it while what the engine
/// says is carried out.
fn is_sure(raft: &Raft, tail: &Tail) -> bool {
    raft.knows_commit() && tail.applied() >= raft.commit()
}

/// Where the log begins, ends, or held what when.
fn offset<P>(group: GroupId, request: RequestId, query: OffsetQuery, term: Term, tail: &Tail) -> Effect<P> {
    let reply = |offset| Effect::Reply { request, reply: Reply::Offset(Ok(offset)) };
    let find = |by| {
        let (from, up_to) = (tail.start_offset(), tail.high_watermark());
        Effect::FindOffset { request, group, by, from, up_to }
    };
    match query {
        OffsetQuery::Earliest => reply(tail.start_offset()),
        OffsetQuery::Latest => reply(tail.high_watermark()),
        OffsetQuery::AtOrAfter(timestamp) => find(FindBy::AtOrAfter(timestamp)),
        OffsetQuery::EndOfTerm(asked) if asked > term => {
            let why = FetchError::UnknownTerm { asked, term };
            Effect::Reply { request, reply: Reply::Offset(Err(why)) }
        }
        OffsetQuery::EndOfTerm(asked) => find(FindBy::EndOfTerm(asked)),
        OffsetQuery::MaxTimestamp => find(FindBy::MaxTimestamp),
    }
}

impl Partition {
    /// This replica leads, or leads no more: rounds begin anew.
    pub fn forget_rounds(&mut self) {
        self.questions.confirmed = Round(0);
    }

    /// Answers all with `why`.
    pub fn refuse_questions<P>(&mut self, why: &FetchError, effects: &mut Vec<Effect<P>>) {
        while let Some(question) = self.questions.take_any() {
            effects.push(question.refuse(why.clone()));
        }
    }

    /// A client waits no longer for its fetch.
    pub fn hurry_question<P>(&mut self, request: RequestId, effects: &mut Vec<Effect<P>>) {
        if let Some(question) = self.questions.take_request(request) {
            effects.push(question.refuse(FetchError::NotYet));
        }
    }

    /// Answers those that waited too long.
    pub fn time_out_questions<P>(
        &mut self,
        now: Monotonic,
        standing: &Standing<'_>,
        effects: &mut Vec<Effect<P>>,
    ) {
        while let Some((round, question)) = self.questions.take_overdue(now) {
            let why = match round <= self.questions.confirmed {
                // It leads, and waits for its first entry to be committed.
                true => FetchError::NotYet,
                // No majority says that it leads.
                false => FetchError::NotLeader { leader: None, term: standing.term() },
            };
            effects.push(question.refuse(why));
        }
    }
}
