//! Whether a leader still leads, without an entry: the heart of ReadIndex (thesis §6.4).

use crate::support::id;
use crate::tested::{A, B, Tested, config, entry, recovered};
use raftline_proto::ids::{EntryId, Index, NodeId, Term};
use raftline_raft::types::{
    AckWanted, AppendResult, Input, Message, Output, ProposeError, Recovered, Role, Round,
};

/// A leader of three whose first entry is committed, and whose followers wait for nothing.
fn leader() -> Tested {
    let mut tested = Tested::fresh();
    tested.win();
    tested.synced();
    for node in [A, B, A, B] {
        answer(&mut tested, node, 0);
    }
    assert!(tested.raft.knows_commit());
    assert_eq!(tested.raft.deadline(), None, "everybody is at rest");
    tested
}

fn ask(tested: &mut Tested) -> (Round, Vec<Output>) {
    let mut outputs = Vec::new();
    let round = tested.raft.confirm(&mut outputs).unwrap();
    (round, outputs)
}

/// The follower has everything, and has heard of `round`.
fn answer(tested: &mut Tested, from: NodeId, round: u64) -> Vec<Output> {
    let last = tested.raft.last().index;
    let result = AppendResult::Matched { durable: last, received: last, commit: last };
    let term = tested.raft.term();
    tested.hear(from, Message::AppendReply { term, result, round: Round(round) })
}

fn confirmed(outputs: &[Output]) -> Option<Round> {
    outputs.iter().find_map(|output| match output {
        Output::Confirmed { through } => Some(*through),
        _ => None,
    })
}

/// Whom an append with this round was ordered for.
fn asked(outputs: &[Output], round: Round) -> Vec<NodeId> {
    let order = |output: &Output| match output {
        Output::Replicate { to, round: told, .. } if *told == round => Some(*to),
        _ => None,
    };
    outputs.iter().filter_map(order).collect()
}

#[test]
fn a_majority_that_answers_afterwards_confirms() {
    let mut tested = leader();
    let (round, outputs) = ask(&mut tested);
    assert_eq!((round, confirmed(&outputs)), (Round(1), None));
    let outputs = tested.tell(Input::Tick);
    assert_eq!(asked(&outputs, round), [A, B], "without an entry, and although both are at rest");
    assert_eq!(confirmed(&answer(&mut tested, A, 0)), None, "it was said before the question");
    assert_eq!(confirmed(&answer(&mut tested, A, 1)), Some(round));
    assert_eq!(confirmed(&answer(&mut tested, B, 1)), None, "no news");
    assert_eq!(tested.raft.deadline(), None);
}

#[test]
fn what_is_asked_in_one_batch_is_asked_together() {
    let mut tested = leader();
    let rounds = [ask(&mut tested).0, ask(&mut tested).0];
    assert_eq!(rounds, [Round(1); 2]);
    tested.tell(Input::Tick);
    assert_eq!(
        ask(&mut tested).0,
        Round(2),
        "the first has left: its answers may be older than this question"
    );
    assert_eq!(confirmed(&answer(&mut tested, B, 1)), Some(Round(1)));
}

#[test]
fn a_lost_question_is_asked_again() {
    let mut tested = leader();
    let (round, _) = ask(&mut tested);
    tested.tell(Input::Tick);
    // Both answers are lost. Or one: of an append before it.
    answer(&mut tested, A, 0);
    tested.now = tested.raft.deadline().expect("somebody has not answered");
    assert_eq!(asked(&tested.tell(Input::Tick), round), [A, B]);
}

#[test]
fn one_that_was_down_is_asked_when_it_is_back() {
    let mut tested = leader();
    tested.tell(Input::PeerDown { node: A });
    let (round, _) = ask(&mut tested);
    assert_eq!(asked(&tested.tell(Input::Tick), round), [B]);
    assert_eq!(asked(&tested.tell(Input::PeerUp { node: A }), round), [A]);
    assert_eq!(confirmed(&answer(&mut tested, A, 1)), Some(round));
}

#[test]
fn a_single_voter_confirms_itself() {
    let mut tested = Tested::new(config(1), Recovered::default());
    tested.time_out();
    tested.saved();
    let (round, outputs) = ask(&mut tested);
    assert_eq!(confirmed(&outputs), Some(round));
}

#[test]
fn nobody_else_can_ask() {
    let mut tested = Tested::fresh();
    let refused = Err(ProposeError::NotLeader { leader: None });
    assert_eq!(tested.raft.confirm(&mut Vec::new()), refused);
}

#[test]
fn a_new_leader_does_not_know_what_is_committed() {
    let mut tested = Tested::new(config(3), recovered(1, None, &[id(1, 1), id(1, 2)]));
    tested.win();
    tested.synced();
    assert_eq!(tested.raft.role(), Role::Leader);
    assert!(!tested.raft.knows_commit());
    tested.matched(A, 2, 2);
    assert!(!tested.raft.knows_commit(), "entries of earlier terms do not count");
    tested.matched(A, 2, 3);
    assert!(tested.raft.knows_commit());
}

#[test]
fn a_follower_tells_the_round_that_it_has_heard_of_once_its_term_is_durable() {
    let mut tested = Tested::fresh();
    let append = |round| Message::Append {
        term: Term(1),
        previous: EntryId::ZERO,
        commit: Index(0),
        ack: AckWanted::Durable,
        round: Round(round),
    };
    let told = |outputs: &[Output]| -> Option<Round> {
        outputs.iter().find_map(|output| match output {
            Output::Send { message: Message::AppendReply { round, .. }, .. } => Some(*round),
            _ => None,
        })
    };
    assert_eq!(told(&tested.hear(A, append(4))), None);
    assert_eq!(told(&tested.saved()), Some(Round(4)));
    // An entry that is not durable yet: the answer to the question does not wait for it.
    let entries = [entry(1, 1)];
    let outputs = tested.tell(Input::Message { from: A, message: append(5), entries: &entries });
    assert_eq!(told(&outputs), Some(Round(5)));
    assert_eq!(told(&tested.hear(A, append(3))), Some(Round(5)), "one that comes late");
    // Another leader's rounds are its own.
    let later = Message::Append {
        term: Term(2),
        previous: id(1, 1),
        commit: Index(0),
        ack: AckWanted::Durable,
        round: Round(1),
    };
    assert_eq!(told(&tested.hear(B, later)), None);
    assert_eq!(told(&tested.saved()), Some(Round(1)));
}
