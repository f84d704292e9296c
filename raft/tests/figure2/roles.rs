//! Figure 2: rules for servers, by role; figure 8; what the durable log adds to them.

use crate::support::id;
use crate::tested::{
    A, B, NODE, Tested, committed, config, entry, membership, recovered, rejected, sent, vote_reply,
};
use raftline_proto::ids::{EntryId, HardState, Index, NodeId, Term};
use raftline_proto::time::Monotonic;
use raftline_raft::types::{
    Alarm, AppendResult, Entry, Input, LogStart, Message, Output, ProposeError, Recovered, Role, Round,
};
use std::time::Duration;

// Rules for all servers

#[test]
fn all_servers_a_newer_term_makes_a_follower() {
    for message in [
        Message::VoteReply { term: Term(9), granted: false },
        rejected(9, 1, EntryId::ZERO),
        Message::PreVoteReply { term: Term(9), granted: false, leader: None },
        Message::SteppedDown { term: Term(9) },
    ] {
        let mut tested = Tested::fresh();
        tested.win();
        let outputs = tested.hear(B, message);
        assert_eq!((tested.raft.role(), tested.raft.term()), (Role::Follower, Term(9)));
        assert!(outputs.contains(&Output::SaveHardState(HardState { term: Term(9), voted_for: None })));
    }
}

#[test]
fn all_servers_commits_are_told_in_order() {
    let mut tested = Tested::new(config(1), Recovered::default());
    tested.time_out();
    tested.saved();
    let mut through = 0;
    for _ in 0..5 {
        let mut outputs = Vec::new();
        tested.raft.propose(tested.now, 100, None, &mut outputs).unwrap();
        let now = committed(&tested.synced()).unwrap();
        assert!(now > through);
        through = now;
    }
}

// Rules for followers

#[test]
fn followers_campaign_after_an_election_timeout_without_a_leader() {
    let mut tested = Tested::fresh();
    let deadline = tested.raft.deadline().unwrap();
    assert!(deadline.since(Monotonic::ZERO) >= Duration::from_millis(300));
    assert!(deadline.since(Monotonic::ZERO) < Duration::from_millis(900));
    assert_eq!(tested.tell(Input::Tick), []);
    tested.time_out();
    assert_eq!(tested.raft.role(), Role::Candidate);
}

#[test]
fn followers_wait_as_long_as_the_leaders_node_lives() {
    let mut tested = Tested::fresh();
    tested.append(A, 1, EntryId::ZERO, &[], 0);
    assert_eq!(tested.raft.deadline(), None);
    tested.tell(Input::PeerDown { node: B });
    assert_eq!(tested.raft.deadline(), None);
    tested.tell(Input::PeerDown { node: A });
    assert!(tested.raft.deadline().is_some());
    // It is heard, although its node counts as down: the classic timer.
    tested.append(A, 1, EntryId::ZERO, &[], 0);
    assert!(tested.raft.deadline().is_some());
}

#[test]
fn followers_give_a_vote_and_wait_anew() {
    let mut tested = Tested::fresh();
    tested.now = tested.now + Duration::from_secs(1);
    tested.vote(A, 1, EntryId::ZERO);
    assert!(tested.raft.deadline().unwrap() > tested.now);
}

// Rules for candidates

#[test]
fn candidates_raise_the_term_vote_for_themselves_and_ask_once_that_is_durable() {
    let mut tested = Tested::new(config(3), recovered(4, Some(B), &[id(1, 1)]));
    let outputs = tested.time_out();
    let hard_state = HardState { term: Term(5), voted_for: Some(NODE) };
    assert!(outputs.contains(&Output::SaveHardState(hard_state)));
    assert_eq!(sent(&outputs), []);
    // An earlier save that comes late is not this one.
    tested.tell(Input::HardStateDurable { hard_state: HardState { term: Term(4), voted_for: Some(B) } });
    let request = Message::Vote { term: Term(5), last: id(1, 1), transfer: false };
    assert_eq!(sent(&tested.saved()), [(A, request.clone()), (B, request)]);
}

#[test]
fn candidates_win_with_a_majority() {
    let mut tested = Tested::new(config(5), Recovered::default());
    tested.time_out();
    tested.saved();
    tested.hear(A, vote_reply(1, true));
    // The same vote again, a refusal, a learner's or a stranger's vote, and one of another term do not count.
    tested.hear(A, vote_reply(1, true));
    tested.hear(B, vote_reply(1, false));
    tested.hear(NodeId(9), vote_reply(1, true));
    tested.hear(B, vote_reply(0, true));
    assert_eq!(tested.raft.role(), Role::Candidate);
    tested.hear(B, vote_reply(1, true));
    assert_eq!(tested.raft.role(), Role::Leader);
}

#[test]
fn candidates_own_vote_counts_once_it_is_durable() {
    let mut alone = Tested::new(config(1), Recovered::default());
    alone.time_out();
    assert_eq!(alone.raft.role(), Role::Candidate);
    alone.saved();
    assert_eq!(alone.raft.role(), Role::Leader);
    // It has asked nobody yet, so these answer nothing of ours, and must not make a leader without a durable vote.
    let mut tested = Tested::fresh();
    tested.time_out();
    tested.hear(A, vote_reply(1, true));
    tested.hear(B, vote_reply(1, true));
    assert_eq!(tested.raft.role(), Role::Candidate);
    tested.saved();
    tested.hear(A, vote_reply(1, true));
    assert_eq!(tested.raft.role(), Role::Leader);
}

#[test]
fn candidates_follow_a_leader_of_their_term() {
    let mut tested = Tested::fresh();
    tested.time_out();
    tested.saved();
    tested.append(A, 1, EntryId::ZERO, &[], 0);
    assert_eq!((tested.raft.role(), tested.raft.leader()), (Role::Follower, Some(A)));
    // A vote that comes late makes no leader of a follower.
    tested.hear(B, vote_reply(1, true));
    assert_eq!(tested.raft.role(), Role::Follower);
}

#[test]
fn candidates_start_a_new_election_when_the_round_times_out() {
    let mut tested = Tested::fresh();
    tested.time_out();
    tested.saved();
    tested.time_out();
    assert_eq!((tested.raft.role(), tested.raft.term()), (Role::Candidate, Term(2)));
    // A vote of the first round is not one of the second.
    tested.saved();
    tested.hear(A, vote_reply(1, true));
    assert_eq!(tested.raft.role(), Role::Candidate);
}

// Rules for leaders

#[test]
fn leaders_show_themselves_at_once_with_an_entry_of_their_term() {
    let mut tested = Tested::new(config(3), recovered(2, None, &[id(1, 1), id(2, 2)]));
    let outputs = tested.win();
    assert!(outputs.contains(&Output::Append(Entry { id: id(3, 3), entry_bytes: 48, membership: None })));
    for peer in [A, B] {
        let order = |output: &&Output| matches!(output, Output::Replicate { to, .. } if *to == peer);
        let Some(Output::Replicate { previous, from, up_to, .. }) = outputs.iter().find(order) else {
            panic!("nothing for {peer}")
        };
        assert_eq!((*previous, *from, *up_to), (id(2, 2), Index(3), Index(4)));
    }
}

#[test]
fn leaders_record_the_membership_where_the_log_does_not() {
    let mut tested = Tested::fresh();
    let first = Entry { id: id(1, 1), entry_bytes: 48, membership: Some(membership(3)) };
    assert!(tested.win().contains(&Output::Append(first)));
}

#[test]
fn leaders_append_what_is_proposed_and_nobody_else_does() {
    let mut tested = Tested::fresh();
    let mut outputs = Vec::new();
    let refusal = tested.raft.propose(tested.now, 100, None, &mut outputs);
    assert_eq!(refusal, Err(ProposeError::NotLeader { leader: None }));
    tested.win();
    let accepted = tested.raft.propose(tested.now, 100, None, &mut outputs);
    assert_eq!(accepted, Ok(id(1, 2)));
    assert_eq!(outputs, [Output::Append(entry(1, 2))]);
    let other_voters = Some(membership(5));
    let refusal = tested.raft.propose(tested.now, 100, other_voters, &mut outputs);
    assert_eq!(refusal, Err(ProposeError::VotersDiffer));
}

#[test]
fn leaders_send_what_follows_next_index_and_move_it() {
    let mut tested = Tested::fresh();
    tested.win();
    tested.matched(A, 1, 1);
    let next = |tested: &Tested| tested.raft.peers().next().unwrap().next;
    assert_eq!(next(&tested), Index(2));
    tested.raft.propose(tested.now, 100, None, &mut Vec::new()).unwrap();
    tested.raft.propose(tested.now, 100, None, &mut Vec::new()).unwrap();
    // Sent ahead of the acknowledgement.
    let outputs = tested.matched(A, 1, 1);
    let order = outputs.iter().find(|output| matches!(output, Output::Replicate { .. }));
    let Some(Output::Replicate { from, up_to, .. }) = order else { panic!("nothing was sent") };
    assert_eq!((*from, *up_to), (Index(2), Index(4)));
    assert_eq!(next(&tested), Index(4));
}

#[test]
fn leaders_go_back_where_the_logs_disagree() {
    let ids = [id(1, 1), id(1, 2), id(3, 3), id(3, 4), id(3, 5)];
    let mut tested = Tested::new(config(3), recovered(3, None, &ids));
    tested.win();
    let mut next_after = |previous: u64, hint: EntryId| {
        tested.hear(A, rejected(4, previous, hint));
        tested.raft.peers().next().unwrap().next
    };
    // Nothing of our term 3 can be in a log that ends in term 2.
    assert_eq!(next_after(5, id(2, 4)), Index(3));
    // Late, or repeated: it answers a probe that is over.
    assert_eq!(next_after(5, id(2, 4)), Index(3));
    assert_eq!(next_after(2, id(1, 1)), Index(2));
}

#[test]
fn leaders_never_lower_what_a_follower_acknowledged() {
    let mut tested = Tested::new(config(3), recovered(1, None, &[id(1, 1), id(1, 2)]));
    tested.win();
    tested.matched(A, 2, 3);
    tested.matched(A, 2, 1);
    tested.hear(A, rejected(2, 2, id(1, 1)));
    let view = tested.raft.peers().next().unwrap();
    assert_eq!((view.matched, view.next), (Index(3), Index(4)));
}

#[test]
fn leaders_forget_what_was_only_in_memory_when_a_node_restarts() {
    let mut tested = Tested::fresh();
    tested.win();
    let result = AppendResult::Matched { durable: Index(0), received: Index(1), commit: Index(0) };
    tested.hear(A, Message::AppendReply { term: Term(1), result, round: Round(0) });
    assert_eq!(tested.raft.peers().next().unwrap().received, Index(1));
    tested.tell(Input::PeerReset { node: A });
    assert_eq!(tested.raft.peers().next().unwrap().received, Index(0));
}

#[test]
fn leaders_commit_what_a_majority_has_durable() {
    let mut tested = Tested::new(config(5), Recovered::default());
    tested.time_out();
    tested.saved();
    tested.hear(A, vote_reply(1, true));
    tested.hear(B, vote_reply(1, true));
    assert_eq!(committed(&tested.matched(A, 1, 1)), None);
    assert_eq!(committed(&tested.matched(A, 1, 1)), None);
    // Its own entry counts once it is synced.
    assert_eq!(committed(&tested.matched(B, 1, 1)), None);
    assert_eq!(committed(&tested.synced()), Some(1));
    // Or not at all: three others are a majority too.
    tested.raft.propose(tested.now, 100, None, &mut Vec::new()).unwrap();
    tested.matched(A, 1, 2);
    tested.matched(B, 1, 2);
    assert_eq!(committed(&tested.matched(NodeId(4), 1, 2)), Some(2));
    assert_eq!(tested.raft.durable(), Index(1));
}

#[test]
fn leaders_commit_only_entries_of_their_own_term_by_counting() {
    let mut tested = Tested::new(config(3), recovered(2, None, &[id(1, 1), id(2, 2)]));
    tested.win();
    assert_eq!(committed(&tested.matched(A, 3, 2)), None);
    tested.synced();
    assert_eq!(committed(&tested.matched(A, 3, 3)), Some(3));
}

#[test]
fn leaders_ignore_acknowledgements_of_other_terms_and_alarm_at_impossible_ones() {
    let mut tested = Tested::new(config(3), recovered(2, None, &[id(1, 1), id(2, 2)]));
    tested.win();
    tested.matched(A, 2, 2);
    assert_eq!(tested.raft.peers().next().unwrap().matched, Index(0));
    let alarm = Alarm::MatchPastEnd { node: A, claimed: Index(9), last: Index(3) };
    assert_eq!(tested.matched(A, 3, 9), [Output::Alarm(alarm)]);
    assert_eq!(tested.raft.peers().next().unwrap().matched, Index(0));
}

#[test]
fn two_leaders_of_one_term_are_an_alarm() {
    let mut tested = Tested::fresh();
    tested.append(A, 1, EntryId::ZERO, &[], 0);
    let alarm = |known, other| Output::Alarm(Alarm::TwoLeaders { term: Term(1), known, other });
    assert!(tested.append(B, 1, EntryId::ZERO, &[entry(1, 1)], 0).contains(&alarm(A, B)));
    assert_eq!(tested.raft.last(), EntryId::ZERO);
    let mut leader = Tested::fresh();
    leader.win();
    assert!(leader.append(B, 1, EntryId::ZERO, &[], 0).contains(&alarm(NODE, B)));
    assert_eq!(leader.raft.role(), Role::Leader);
}

#[test]
fn a_sync_that_ends_late_vouches_for_nothing_that_came_instead() {
    let mut tested = Tested::fresh();
    tested.append(A, 1, EntryId::ZERO, &[entry(1, 1), entry(1, 2)], 0);
    tested.append(B, 2, id(1, 1), &[entry(2, 2)], 2);
    tested.saved();
    assert_eq!(tested.tell(Input::LogDurable { last: id(1, 2) }), []);
    assert_eq!(tested.raft.durable(), Index(0));
    assert_eq!(committed(&tested.tell(Input::LogDurable { last: id(2, 2) })), Some(2));
}

#[test]
fn a_trimmed_prefix_counts_as_the_same() {
    let start = LogStart { previous: id(2, 5), ..LogStart::default() };
    let recovered = Recovered {
        hard_state: HardState { term: Term(2), voted_for: None },
        start,
        term_starts: vec![id(2, 6)],
        last: id(2, 7),
        commit_hint: Index(5),
        memberships: Vec::new(),
    };
    let mut tested = Tested::new(config(3), recovered);
    let entries = [entry(1, 4), entry(2, 5), entry(2, 6), entry(2, 7), entry(3, 8)];
    assert!(tested.append(A, 3, id(1, 3), &entries, 0).contains(&Output::Accept { skip: 4 }));
    assert_eq!(tested.raft.last(), id(3, 8));
    // A reset to where the log begins anyway, or to what it holds, throws nothing away.
    for start in [start, LogStart { previous: id(2, 7), ..start }] {
        let outputs = tested.hear(A, Message::Reset { term: Term(3), start, commit: Index(5) });
        assert!(!outputs.iter().any(|output| matches!(output, Output::Reset { .. })));
    }
    assert_eq!(tested.raft.last(), id(3, 8));
}

/// Figure 8: (2, 2) reaches a majority in term 4, and is still replaced in term 5: it must not have been committed.
#[test]
fn figure_8() {
    // (c): S1 leads term 4; it, S2 and, by its help, S3 hold (2, 2). S4 and S5 do not answer.
    let recovered = |term, ids: &[EntryId]| Recovered {
        memberships: vec![(Index(1), membership(5))],
        ..recovered(term, None, ids)
    };
    let mut leader = Tested::new(config(5), recovered(3, &[id(1, 1), id(2, 2)]));
    leader.time_out();
    leader.saved();
    leader.hear(A, vote_reply(4, true));
    leader.hear(B, vote_reply(4, true));
    assert_eq!(leader.raft.role(), Role::Leader);
    assert_eq!(committed(&leader.matched(A, 4, 2)), None);
    assert_eq!(committed(&leader.matched(B, 4, 2)), None);

    // (d): S1 is gone; S5, with (3, 2), wins term 5 and replaces (2, 2) at S3.
    let mut follower = Tested::new(config(5), recovered(4, &[id(1, 1), id(2, 2)]));
    follower.vote(NodeId(5), 5, id(3, 2));
    assert_eq!(sent(&follower.saved()), [(NodeId(5), vote_reply(5, true))]);
    let outputs = follower.append(NodeId(5), 5, id(1, 1), &[entry(3, 2), entry(5, 3)], 0);
    assert!(outputs.contains(&Output::Truncate { from: Index(2) }));

    // (e): had S1 brought (4, 3) to a majority, S5 could not win.
    assert_eq!(committed(&leader.synced()), None);
    leader.matched(A, 4, 3);
    assert_eq!(committed(&leader.matched(B, 4, 3)), Some(3));
    let mut follower = Tested::new(config(5), recovered(4, &[id(1, 1), id(2, 2), id(4, 3)]));
    assert_eq!(sent(&follower.vote(NodeId(5), 5, id(3, 2))), [(NodeId(5), vote_reply(5, false))]);
}

/// A divergent tail of 100,000 entries over many terms is passed in as many round trips as there are terms at most.
#[test]
fn back_off_is_one_round_trip_a_term() {
    // Both share 1 to 10. The leader's next 100,000 are of odd terms, the follower's of even ones, 20 terms each.
    let tail = |first_term: u64| {
        let run = move |run: u64| (0..5_000).map(move |n| id(first_term + 2 * run, 11 + run * 5_000 + n));
        (1..=10).map(|n| id(1, n)).chain((0..20).flat_map(run)).collect::<Vec<EntryId>>()
    };
    let mut leader = Tested::new(config(3), recovered(50, None, &tail(3)));
    leader.win();
    let term = leader.raft.term().get();
    let mut follower = Tested::new(config(3), recovered(50, None, &tail(2)));
    let mut previous = id(41, 100_010);
    let mut trips = 0;
    loop {
        trips += 1;
        let answers = sent(&follower.append(A, term, previous, &[], 0));
        let Some((_, refusal)) = answers.into_iter().next() else { break };
        let next = leader.hear(A, refusal).into_iter().find_map(|output| match output {
            Output::Replicate { to, previous, .. } if to == A => Some(previous),
            _ => None,
        });
        previous = next.expect("a refusal leads to a probe");
    }
    assert_eq!(previous, id(1, 10));
    assert!(trips <= 21, "{trips} round trips");
}
