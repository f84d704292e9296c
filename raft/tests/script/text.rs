//! Inputs and outputs of the engine as short text.

use crate::support::replica::Wire;
use raftline_proto::ids::{EntryId, Membership, NodeId};
use raftline_raft::types::{AckWanted, AppendResult, Entry, Message, Output, Role, Round};

pub fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

pub fn node(node: Option<NodeId>) -> String {
    node.map_or("-".to_string(), |node| node.to_string())
}

fn list(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(" ")
}

pub fn membership(membership: &Membership) -> String {
    let voters = list(&membership.voters);
    if membership.learners.is_empty() {
        format!("voters {voters}")
    } else {
        format!("voters {voters}, learners {}", list(&membership.learners))
    }
}

fn entry(entry: &Entry) -> String {
    match &entry.membership {
        Some(carried) => format!("{} ({})", entry.id, membership(carried)),
        None => entry.id.to_string(),
    }
}

/// `1.1 1.2 2.3`, or `1.1..1.9` for long runs of one term.
pub fn ids(ids: &[EntryId]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = ids;
    while let Some(first) = rest.first() {
        let run = rest.iter().take_while(|id| id.term == first.term).count();
        if run > 3 {
            parts.push(format!("{first}..{}", rest[run - 1]));
        } else {
            parts.extend(rest[..run].iter().map(EntryId::to_string));
        }
        rest = &rest[run..];
    }
    parts.join(" ")
}

fn ack(ack: AckWanted) -> &'static str {
    match ack {
        AckWanted::Durable => "durable",
        AckWanted::Memory => "memory",
    }
}

fn round(round: Round) -> String {
    match round {
        Round(0) => String::new(),
        Round(round) => format!(" round {round}"),
    }
}

pub fn message(message: &Message) -> String {
    match message {
        Message::PreVote { term, last } => format!("prevote term {term} last {last}"),
        Message::PreVoteReply { term, granted, leader } => {
            let verdict = if *granted { "granted" } else { "refused" };
            let because = leader.map_or(String::new(), |leader| format!(", {leader} leads"));
            format!("prevote-reply term {term} {verdict}{because}")
        }
        Message::Vote { term, last, transfer } => {
            let transfer = if *transfer { " for a transfer" } else { "" };
            format!("vote term {term} last {last}{transfer}")
        }
        Message::VoteReply { term, granted } => {
            format!("vote-reply term {term} {}", if *granted { "granted" } else { "refused" })
        }
        Message::Append { term, previous, commit, ack: wanted, round: asked } => {
            let (wanted, asked) = (ack(*wanted), round(*asked));
            format!("append term {term} previous {previous} commit {commit} ack {wanted}{asked}")
        }
        Message::AppendReply { term, result, round: told } => match result {
            AppendResult::Matched { durable, received, commit } => {
                let held = format!("durable {durable} received {received} commit {commit}");
                format!("append-reply term {term} {held}{}", round(*told))
            }
            AppendResult::Rejected { previous, hint } => {
                format!("append-reply term {term} rejects {previous} hint {hint}")
            }
        },
        Message::TimeoutNow { term } => format!("timeout-now term {term}"),
        Message::SteppedDown { term } => format!("stepped-down term {term}"),
        Message::Vouched { term, entry } => format!("vouched term {term} for {entry}"),
        Message::Reset { term, start, commit } => {
            format!("reset term {term} start after {} commit {commit}", start.previous)
        }
    }
}

pub fn wire(wire: &Wire) -> String {
    let entries: Vec<EntryId> = wire.entries.iter().map(|stored| stored.entry.id).collect();
    let entries = if entries.is_empty() { String::new() } else { format!(" entries {}", ids(&entries)) };
    format!("{} -> {} {}{entries}", wire.from, wire.to, message(&wire.message))
}

/// What a replica did by itself; what it sends is shown as messages.
pub fn output(by: NodeId, output: &Output) -> Option<String> {
    let text = match output {
        Output::SaveHardState(hard_state) => {
            format!("saves term {} vote {}", hard_state.term, node(hard_state.voted_for))
        }
        Output::Append(appended) => format!("appends {}", entry(appended)),
        Output::Accept { skip: 0 } => "accepts".to_string(),
        Output::Accept { skip } => format!("accepts without the first {skip}"),
        Output::Truncate { from } => format!("truncates from {from}"),
        Output::Reset { start } => format!("begins anew after {}", start.previous),
        Output::Replicate { .. } | Output::Send { .. } => return None,
        Output::Committed { through } => format!("commits through {through}"),
        Output::Received { through } => format!("has a majority in memory through {through}"),
        Output::Confirmed { through } => format!("is confirmed as the leader in round {}", through.0),
        Output::RoleChanged { role: changed, term, leader } => {
            format!("is {} in term {term}, leader {}", role(*changed), node(*leader))
        }
        Output::MembershipChanged(changed) => format!("has {}", membership(changed)),
        Output::Alarm(alarm) => format!("ALARM {alarm:?}"),
    };
    Some(format!("{by} {text}"))
}
