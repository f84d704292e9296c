//! Figure 2: state, AppendEntries and RequestVote.

use crate::support::id;
use crate::tested::{A, B, Tested, committed, config, entry, recovered, rejected, sent, vote_reply};
use raftline_proto::ids::{EntryId, HardState, Index, Term};
use raftline_proto::time::Monotonic;
use raftline_raft::Raft;
use raftline_raft::types::{Alarm, AppendResult, Entry, Input, Message, Output, Recovered, Round};

// State

#[test]
fn state_term_and_vote_start_from_zero_and_are_persistent() {
    let tested = Tested::fresh();
    assert_eq!(tested.raft.hard_state(), HardState::default());
    let restarted = Tested::new(config(3), recovered(4, Some(B), &[id(1, 1)]));
    assert_eq!(restarted.raft.hard_state(), HardState { term: Term(4), voted_for: Some(B) });
}

#[test]
fn state_commit_index_starts_from_zero_or_the_hint() {
    assert_eq!(Tested::fresh().raft.commit(), Index(0));
    let hint = |hint| {
        let recovered = Recovered { commit_hint: Index(hint), ..recovered(1, None, &[id(1, 1), id(1, 2)]) };
        Tested::new(config(3), recovered).raft.commit()
    };
    assert_eq!(hint(1), Index(1));
    // A leader may have committed, and noted, what it had not synced itself.
    assert_eq!(hint(9), Index(2));
}

#[test]
fn state_a_term_in_the_log_alone_is_a_term() {
    let recovered = recovered(1, Some(A), &[id(1, 1), id(3, 2)]);
    let mut raft = Raft::new(config(3), recovered, Monotonic::ZERO);
    let hard_state = HardState { term: Term(3), voted_for: None };
    assert_eq!(raft.hard_state(), hard_state);
    // And is saved with the first step.
    let mut outputs = Vec::new();
    raft.step(Monotonic::ZERO, Input::Tick, &mut outputs);
    assert_eq!(outputs, [Output::SaveHardState(hard_state)]);
}

// AppendEntries, receiver implementation

#[test]
fn append_1_refuses_an_older_term() {
    let mut tested = Tested::new(config(3), recovered(3, None, &[id(1, 1)]));
    let outputs = tested.append(A, 2, id(1, 1), &[entry(2, 2)], 0);
    assert_eq!(sent(&outputs), [(A, rejected(3, 1, id(1, 1)))]);
    assert_eq!(tested.raft.last(), id(1, 1));
    assert_eq!(tested.raft.leader(), None);
}

#[test]
fn append_2_refuses_where_the_log_does_not_hold_the_previous_entry() {
    let mut tested = Tested::new(config(3), recovered(1, None, &[id(1, 1), id(1, 2), id(1, 3)]));
    // Beyond the end.
    let outputs = tested.append(A, 2, id(1, 5), &[entry(2, 6)], 0);
    assert_eq!(sent(&outputs), [(A, rejected(2, 5, id(1, 3)))]);
    // Of another term: no entry of term 2 or later, nor anything after it, can agree.
    let outputs = tested.append(A, 2, id(2, 3), &[entry(2, 4)], 0);
    assert_eq!(sent(&outputs), [(A, rejected(2, 3, id(1, 2)))]);
    assert_eq!(tested.raft.last(), id(1, 3));
}

#[test]
fn append_2_names_the_last_entry_that_may_agree() {
    let ids = [id(1, 1), id(1, 2), id(2, 3), id(2, 4), id(2, 5), id(4, 6), id(4, 7)];
    let mut tested = Tested::new(config(3), recovered(5, None, &ids));
    let mut refusal = |previous: EntryId| {
        let outputs = tested.append(A, 5, previous, &[], 0);
        sent(&outputs).pop().unwrap().1
    };
    assert_eq!(refusal(id(3, 7)), rejected(5, 7, id(2, 5)));
    assert_eq!(refusal(id(3, 9)), rejected(5, 9, id(2, 5)));
    assert_eq!(refusal(id(1, 5)), rejected(5, 5, id(1, 2)));
    assert_eq!(refusal(id(5, 7)), rejected(5, 7, id(4, 6)));
}

#[test]
fn append_3_cuts_what_conflicts_and_all_after_it() {
    let ids = [id(1, 1), id(1, 2), id(2, 3), id(2, 4)];
    let mut tested = Tested::new(config(3), recovered(2, None, &ids));
    let outputs = tested.append(A, 3, id(1, 1), &[entry(1, 2), entry(3, 3)], 0);
    let truncate = outputs.iter().position(|output| *output == Output::Truncate { from: Index(3) });
    let accept = outputs.iter().position(|output| *output == Output::Accept { skip: 1 });
    assert!(truncate.unwrap() < accept.unwrap());
    assert_eq!(tested.raft.last(), id(3, 3));
    assert_eq!(tested.raft.durable(), Index(2));
}

#[test]
fn append_3_cuts_only_what_conflicts() {
    let mut tested = Tested::new(config(3), recovered(1, None, &[id(1, 1), id(1, 2), id(1, 3)]));
    // It comes late, and carries less than is held.
    let outputs = tested.append(A, 1, id(1, 1), &[entry(1, 2)], 0);
    assert!(!outputs.iter().any(|output| matches!(output, Output::Truncate { .. } | Output::Accept { .. })));
    assert_eq!(tested.raft.last(), id(1, 3));
    // What it does not confirm is not acknowledged.
    let result = AppendResult::Matched { durable: Index(2), received: Index(2), commit: Index(0) };
    assert_eq!(sent(&outputs), [(A, Message::AppendReply { term: Term(1), result, round: Round(0) })]);
}

#[test]
fn append_3_a_committed_entry_is_never_cut() {
    let recovered = Recovered { commit_hint: Index(2), ..recovered(2, None, &[id(1, 1), id(2, 2)]) };
    let mut tested = Tested::new(config(3), recovered);
    let alarm = Alarm::TruncateCommitted { from: Index(2), commit: Index(2) };
    assert!(tested.append(A, 3, id(1, 1), &[entry(3, 2)], 0).contains(&Output::Alarm(alarm.clone())));
    // Nor is the leader led to believe that it may be.
    let outputs = tested.append(A, 3, id(3, 2), &[], 0);
    assert!(outputs.contains(&Output::Alarm(alarm)));
    assert_eq!(sent(&outputs), []);
    assert_eq!(tested.raft.last(), id(2, 2));
}

#[test]
fn append_4_takes_what_is_new_and_answers_once_it_is_durable() {
    let mut tested = Tested::fresh();
    let outputs = tested.append(A, 1, EntryId::ZERO, &[entry(1, 1), entry(1, 2)], 0);
    assert!(outputs.contains(&Output::Accept { skip: 0 }));
    assert_eq!(sent(&outputs), []);
    tested.saved();
    // Only the first of them is.
    let outputs = tested.tell(Input::LogDurable { last: id(1, 1) });
    let result = AppendResult::Matched { durable: Index(1), received: Index(2), commit: Index(0) };
    assert_eq!(sent(&outputs), [(A, Message::AppendReply { term: Term(1), result, round: Round(0) })]);
}

#[test]
fn append_4_answers_nothing_before_the_term_is_durable() {
    let mut tested = Tested::fresh();
    tested.append(A, 1, EntryId::ZERO, &[entry(1, 1)], 0);
    assert_eq!(sent(&tested.synced()), []);
    let result = AppendResult::Matched { durable: Index(1), received: Index(1), commit: Index(0) };
    assert_eq!(sent(&tested.saved()), [(A, Message::AppendReply { term: Term(1), result, round: Round(0) })]);
}

#[test]
fn append_4_refuses_what_is_malformed() {
    let mut tested = Tested::new(config(3), recovered(3, None, &[id(1, 1)]));
    let mut alarm = |entries: &[Entry], offending: EntryId| {
        let outputs = tested.append(A, 3, id(1, 1), entries, 0);
        assert!(outputs.contains(&Output::Alarm(Alarm::MalformedAppend { from: A, entry: offending })));
        assert_eq!(tested.raft.last(), id(1, 1));
    };
    alarm(&[entry(1, 3)], id(1, 3));
    alarm(&[entry(2, 2), entry(1, 3)], id(1, 3));
    alarm(&[entry(4, 2)], id(4, 2));
}

#[test]
fn append_5_commits_up_to_the_leader_but_not_past_what_is_verified() {
    // Entry 3 is an old leader's; the new one confirms only entry 2, and says that 3 is committed: another 3.
    let mut tested = Tested::new(config(3), recovered(2, None, &[id(1, 1), id(1, 2), id(1, 3)]));
    assert_eq!(committed(&tested.append(A, 2, id(1, 1), &[entry(1, 2)], 3)), Some(2));
    assert_eq!(committed(&tested.append(A, 2, id(1, 2), &[entry(2, 3)], 3)), None);
    assert_eq!(committed(&tested.synced()), Some(3));
    assert_eq!(tested.raft.last(), id(2, 3));
}

#[test]
fn append_5_the_commit_index_never_falls() {
    let mut tested = Tested::new(config(3), recovered(1, None, &[id(1, 1), id(1, 2)]));
    assert_eq!(committed(&tested.append(A, 1, id(1, 2), &[], 2)), Some(2));
    assert_eq!(committed(&tested.append(A, 1, id(1, 2), &[], 1)), None);
    assert_eq!(tested.raft.commit(), Index(2));
}

// RequestVote, receiver implementation

#[test]
fn vote_1_refuses_an_older_term() {
    let mut tested = Tested::new(config(3), recovered(3, None, &[]));
    assert_eq!(sent(&tested.vote(A, 2, id(2, 9))), [(A, vote_reply(3, false))]);
}

#[test]
fn vote_2_grants_once_it_is_durable() {
    let mut tested = Tested::fresh();
    let outputs = tested.vote(A, 1, EntryId::ZERO);
    assert_eq!(sent(&outputs), []);
    let hard_state = HardState { term: Term(1), voted_for: Some(A) };
    assert!(outputs.contains(&Output::SaveHardState(hard_state)));
    // The term alone is not enough.
    let term_only = HardState { term: Term(1), voted_for: None };
    assert_eq!(sent(&tested.tell(Input::HardStateDurable { hard_state: term_only })), []);
    assert_eq!(sent(&tested.saved()), [(A, vote_reply(1, true))]);
    // Once.
    assert_eq!(sent(&tested.saved()), []);
}

#[test]
fn vote_2_one_candidate_a_term() {
    let mut tested = Tested::fresh();
    tested.vote(A, 1, EntryId::ZERO);
    assert_eq!(sent(&tested.vote(B, 1, EntryId::ZERO)), [(B, vote_reply(1, false))]);
    tested.saved();
    assert_eq!(sent(&tested.vote(B, 1, EntryId::ZERO)), [(B, vote_reply(1, false))]);
    // The same candidate again: its answer was lost.
    assert_eq!(sent(&tested.vote(A, 1, EntryId::ZERO)), [(A, vote_reply(1, true))]);
    // The next term has a vote of its own.
    tested.vote(B, 2, EntryId::ZERO);
    assert_eq!(sent(&tested.saved()), [(B, vote_reply(2, true))]);
}

#[test]
fn vote_2_only_to_a_log_at_least_as_complete() {
    let grants = |last: EntryId| {
        let mut tested = Tested::new(config(3), recovered(3, None, &[id(1, 1), id(3, 2)]));
        tested.vote(A, 4, last);
        sent(&tested.saved()) == [(A, vote_reply(4, true))]
    };
    assert!(grants(id(3, 2)));
    assert!(grants(id(3, 3)));
    assert!(grants(id(4, 1)));
    assert!(!grants(id(3, 1)));
    // Longer, but its last term is older.
    assert!(!grants(id(2, 9)));
}

// What a follower vouched for

#[test]
fn a_leader_tells_a_follower_that_lacks_what_it_vouched_for() {
    let mut tested = Tested::fresh();
    tested.win();
    tested.synced();
    tested.matched(A, 1, 1);
    let expected = [(A, Message::Vouched { term: Term(1), entry: id(1, 1) })];
    assert_eq!(sent(&tested.hear(A, rejected(1, 1, EntryId::ZERO))), expected);
    assert_eq!(sent(&tested.hear(B, rejected(1, 1, EntryId::ZERO))), [], "it has vouched for nothing");
}

#[test]
fn a_follower_that_lost_what_it_vouched_for_raises_an_alarm() {
    let mut tested = Tested::new(config(3), recovered(2, None, &[id(1, 1), id(1, 2)]));
    tested.append(A, 2, id(1, 2), &[], 0);
    let vouched = |entry| Message::Vouched { term: Term(2), entry };
    let alarms =
        |outputs: &[Output]| outputs.iter().filter(|output| matches!(output, Output::Alarm(_))).count();
    assert_eq!(alarms(&tested.hear(A, vouched(id(1, 2)))), 0, "it is there: an older answer came late");
    assert_eq!(alarms(&tested.hear(B, vouched(id(2, 3)))), 0, "nobody that leads");
    let earlier = Message::Vouched { term: Term(1), entry: id(1, 9) };
    assert_eq!(alarms(&tested.hear(A, earlier)), 0, "of an earlier term: it may have been replaced since");
    let lost = Alarm::Lost { leader: A, vouched: id(2, 3), last: id(1, 2) };
    assert!(tested.hear(A, vouched(id(2, 3))).contains(&Output::Alarm(lost)));
}
