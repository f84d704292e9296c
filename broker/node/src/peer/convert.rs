//! Between the engine's messages and their protobuf form, with every bound checked on the way in.

use crate::payload::{LeaderNews, PeerBody, PeerMessage};
use bytes::{Bytes, BytesMut};
use raftline_proto::entry::{EntryError, EntryHeader, EntryInfo, HEADER_BYTES, begins_whole, decode_run};
use raftline_proto::ids::{BootId, EntryId, GroupId, Index, NodeId, Offset, Term};
use raftline_proto::limits::{TERM_MAX, VOTERS_MAX};
use raftline_proto::peer as pb;
use raftline_proto::peer::append_reply::Result as ReplyResult;
use raftline_proto::peer::group_message::Message as Body;
use raftline_proto::time::Timestamp;
use raftline_raft::types::{AckWanted, AppendResult, LogStart, Message, Round};
use raftline_shard::pulse::{Condition, Sign};

/// A peer's message, decoded and checked.
#[derive(Clone, Debug)]
pub(super) enum Inbound {
    /// The node-level sign of life.
    Alive { boot: BootId, sign: Sign },
    /// What the sender knows of who leads a group.
    Leads { group: GroupId, news: LeaderNews },
    /// Every replica of the sender that is closed.
    Closed { groups: Vec<GroupId> },
    /// The sender's doors know the metadata through this entry.
    Applied { index: Index },
    /// To a group.
    Raft { group: GroupId, message: Message, entries: Vec<EntryInfo>, payload: Option<Bytes> },
}

/// Why a peer's message cannot be what a peer sends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("group {group}: a message without a body, or of a kind not known here")]
    NoBody { group: GroupId },
    #[error("group {group}: field `{field}` is missing")]
    Missing { group: GroupId, field: &'static str },
    #[error("group {group}: field `{field}` is {found}, past its bound of {max}")]
    OutOfRange { group: GroupId, field: &'static str, found: u64, max: u64 },
    #[error("group {group}: entries do not decode: {error}")]
    Entries { group: GroupId, error: EntryError },
    #[error("group {group}: an entry is whole and cannot be understood here: {error}")]
    NotUnderstood { group: GroupId, error: EntryError },
    #[error("group {group}: entry {found} is addressed to group {addressed}")]
    Misdirected { group: GroupId, found: EntryId, addressed: GroupId },
    #[error("group {group}: entry {found} does not follow entry {previous}")]
    NotConsecutive { group: GroupId, previous: EntryId, found: EntryId },
}

impl Malformed {
    /// What it costs. What is wrong with one entry is no other group's business.
    pub(super) const fn cost(&self) -> Cost {
        match *self {
            Self::NoBody { .. } | Self::Missing { .. } | Self::OutOfRange { .. } => Cost::Connection,
            Self::Entries { .. } | Self::Misdirected { .. } | Self::NotConsecutive { .. } => Cost::Message,
            Self::NotUnderstood { group, .. } => Cost::Replica(group),
        }
    }
}

/// What a malformed message costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// The message: as good as lost on the way. The sender has read its entries from its disk and found them sound, and
    /// reads them again when no answer comes.
    Message,
    /// This node's replica of the group: what its log would have to hold means nothing here.
    Replica(GroupId),
    /// The connection: the sender does not speak this protocol.
    Connection,
}

/// The form that travels.
pub(super) fn encode(message: PeerMessage, boot: BootId) -> pb::GroupMessage {
    let group = message.group.0;
    let message = match message.body {
        PeerBody::Alive(Sign { wall, condition }) => Body::Alive(pb::Alive {
            boot: boot.0,
            wall_ms: wall.get(),
            shards: condition.shards,
            stuck: condition.stuck,
            full: condition.full,
            clock_off: condition.clock_off,
            replicas_max: condition.replicas_max,
        }),
        PeerBody::Leads(news) => Body::Leads(pb::Leads {
            term: news.term.0,
            leader: news.leader.map(|node| node.0),
            in_sync: news.in_sync.iter().map(|node| node.0).collect(),
        }),
        PeerBody::Closed { groups } => {
            Body::Closed(pb::Closed { groups: groups.iter().map(|group| group.0).collect() })
        }
        PeerBody::Applied(index) => Body::Applied(pb::Applied { index: index.0 }),
        PeerBody::Raft { message, entries } => encode_raft(message, entries),
    };
    pb::GroupMessage { group, message: Some(message) }
}

fn encode_raft(message: Message, entries: Vec<Bytes>) -> Body {
    match message {
        Message::PreVote { term, last } => {
            Body::PreVote(pb::PreVote { term: term.0, last: Some(entry_id(last)) })
        }
        Message::PreVoteReply { term, granted, leader } => {
            Body::PreVoteReply(pb::PreVoteReply { term: term.0, granted, leader: leader.map(|node| node.0) })
        }
        Message::Vote { term, last, transfer } => {
            Body::Vote(pb::Vote { term: term.0, last: Some(entry_id(last)), transfer })
        }
        Message::VoteReply { term, granted } => Body::VoteReply(pb::VoteReply { term: term.0, granted }),
        Message::Append { term, previous, commit, ack, round } => Body::Append(pb::Append {
            term: term.0,
            previous: Some(entry_id(previous)),
            commit: commit.0,
            ack_memory: ack == AckWanted::Memory,
            round: round.0,
            entries: joined(entries),
        }),
        Message::AppendReply { term, result, round } => {
            let result = match result {
                AppendResult::Matched { durable, received, commit } => ReplyResult::Matched(pb::Matched {
                    durable: durable.0,
                    received: received.0,
                    commit: commit.0,
                }),
                AppendResult::Rejected { previous, hint } => {
                    ReplyResult::Rejected(pb::Rejected { previous: previous.0, hint: Some(entry_id(hint)) })
                }
            };
            Body::AppendReply(pb::AppendReply { term: term.0, result: Some(result), round: round.0 })
        }
        Message::TimeoutNow { term } => Body::TimeoutNow(pb::TimeoutNow { term: term.0 }),
        Message::SteppedDown { term } => Body::SteppedDown(pb::SteppedDown { term: term.0 }),
        Message::Vouched { term, entry } => {
            Body::Vouched(pb::Vouched { term: term.0, entry: Some(entry_id(entry)) })
        }
        Message::Reset { term, start, commit } => Body::Reset(pb::Reset {
            term: term.0,
            previous: Some(entry_id(start.previous)),
            commit: commit.0,
            start_offset: start.offset.0,
        }),
    }
}

/// One run of bytes. Several parts occur only where entries lie in several segments.
fn joined(mut parts: Vec<Bytes>) -> Bytes {
    match parts.len() {
        0 => Bytes::new(),
        1 => parts.swap_remove(0),
        _ => {
            let mut bytes = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
            for part in &parts {
                bytes.extend_from_slice(part);
            }
            bytes.freeze()
        }
    }
}

/// Decodes and checks one message. Verifies the checksums of its entries, so it is work for a socket's thread.
pub(super) fn decode(message: pb::GroupMessage) -> Result<Inbound, Malformed> {
    let group = GroupId(message.group);
    let fields = Fields { group };
    let body = message.message.ok_or(Malformed::NoBody { group })?;
    let raft = |message| Inbound::Raft { group, message, entries: Vec::new(), payload: None };
    Ok(match body {
        Body::Alive(alive) => {
            let pb::Alive { boot, wall_ms, shards, stuck, full, clock_off, replicas_max } = alive;
            let condition = Condition { shards, stuck, full, clock_off, replicas_max };
            Inbound::Alive { boot: BootId(boot), sign: Sign { wall: Timestamp(wall_ms), condition } }
        }
        Body::Leads(leads) => {
            let in_sync: Vec<NodeId> = leads.in_sync.into_iter().map(NodeId).collect();
            let found = in_sync.len() as u64;
            fields.bounded("in_sync", found, VOTERS_MAX as u64)?;
            let (term, leader) = (fields.term(leads.term)?, leads.leader.map(NodeId));
            Inbound::Leads { group, news: LeaderNews { term, leader, in_sync } }
        }
        Body::Applied(applied) => Inbound::Applied { index: fields.index("index", applied.index)? },
        Body::Closed(closed) => Inbound::Closed { groups: closed.groups.into_iter().map(GroupId).collect() },
        Body::PreVote(body) => raft(Message::PreVote {
            term: fields.term(body.term)?,
            last: fields.entry_id("last", body.last)?,
        }),
        Body::PreVoteReply(body) => raft(Message::PreVoteReply {
            term: fields.term(body.term)?,
            granted: body.granted,
            leader: body.leader.map(NodeId),
        }),
        Body::Vote(body) => raft(Message::Vote {
            term: fields.term(body.term)?,
            last: fields.entry_id("last", body.last)?,
            transfer: body.transfer,
        }),
        Body::VoteReply(body) => {
            raft(Message::VoteReply { term: fields.term(body.term)?, granted: body.granted })
        }
        Body::Append(body) => fields.append(body)?,
        Body::AppendReply(body) => {
            let result = body.result.ok_or(Malformed::Missing { group, field: "result" })?;
            let result = match result {
                ReplyResult::Matched(matched) => AppendResult::Matched {
                    durable: fields.index("durable", matched.durable)?,
                    received: fields.index("received", matched.received)?,
                    commit: fields.index("commit", matched.commit)?,
                },
                ReplyResult::Rejected(rejected) => AppendResult::Rejected {
                    previous: fields.index("previous", rejected.previous)?,
                    hint: fields.entry_id("hint", rejected.hint)?,
                },
            };
            raft(Message::AppendReply { term: fields.term(body.term)?, result, round: Round(body.round) })
        }
        Body::TimeoutNow(body) => raft(Message::TimeoutNow { term: fields.term(body.term)? }),
        Body::Vouched(body) => raft(Message::Vouched {
            term: fields.term(body.term)?,
            entry: fields.entry_id("entry", body.entry)?,
        }),
        Body::SteppedDown(body) => raft(Message::SteppedDown { term: fields.term(body.term)? }),
        Body::Reset(body) => raft(Message::Reset {
            term: fields.term(body.term)?,
            start: LogStart {
                previous: fields.entry_id("previous", body.previous)?,
                offset: Offset(fields.bounded("start_offset", body.start_offset, COORDINATE_MAX)?),
            },
            commit: fields.index("commit", body.commit)?,
        }),
    })
}

/// Reads the fields of one group's message.
struct Fields {
    group: GroupId,
}

impl Fields {
    fn append(&self, body: pb::Append) -> Result<Inbound, Malformed> {
        let group = self.group;
        let previous = self.entry_id("previous", body.previous)?;
        let message = Message::Append {
            term: self.term(body.term)?,
            previous,
            commit: self.index("commit", body.commit)?,
            ack: if body.ack_memory { AckWanted::Memory } else { AckWanted::Durable },
            round: Round(body.round),
        };
        if body.entries.is_empty() {
            return Ok(Inbound::Raft { group, message, entries: Vec::new(), payload: None });
        }
        let entries = decode_run(&body.entries).map_err(|error| not_decoded(group, &body.entries, error))?;
        let mut before = previous;
        for entry in &entries {
            let found = entry.header.id;
            if entry.header.group != group {
                return Err(Malformed::Misdirected { group, found, addressed: entry.header.group });
            }
            if found.index != before.index.next() || found.term < before.term {
                return Err(Malformed::NotConsecutive { group, previous: before, found });
            }
            before = found;
        }
        Ok(Inbound::Raft { group, message, entries, payload: Some(body.entries) })
    }

    fn term(&self, found: u64) -> Result<Term, Malformed> {
        self.bounded("term", found, TERM_MAX).map(Term)
    }

    fn index(&self, field: &'static str, found: u64) -> Result<Index, Malformed> {
        self.bounded(field, found, COORDINATE_MAX).map(Index)
    }

    fn entry_id(&self, field: &'static str, found: Option<pb::EntryId>) -> Result<EntryId, Malformed> {
        let found = found.ok_or(Malformed::Missing { group: self.group, field })?;
        Ok(EntryId { term: self.term(found.term)?, index: self.index(field, found.index)? })
    }

    fn bounded(&self, field: &'static str, found: u64, max: u64) -> Result<u64, Malformed> {
        if found > max {
            return Err(Malformed::OutOfRange { group: self.group, field, found, max });
        }
        Ok(found)
    }
}

/// Which of the two it is: bytes that were damaged on the way, or an entry that another version has written.
fn not_decoded(group: GroupId, entries: &[u8], error: EntryError) -> Malformed {
    let mut rest = entries;
    while let Ok(header) = EntryHeader::decode(rest)
        && let Some((entry, after)) =
            usize::try_from(header.entry_bytes()).ok().and_then(|bytes| rest.split_at_checked(bytes))
        && EntryHeader::verify(entry).is_ok()
        && EntryInfo::decode(header, &entry[HEADER_BYTES..]).is_ok()
    {
        rest = after;
    }
    if begins_whole(rest) {
        Malformed::NotUnderstood { group, error }
    } else {
        Malformed::Entries { group, error }
    }
}

const fn entry_id(id: EntryId) -> pb::EntryId {
    pb::EntryId { term: id.term.0, index: id.index.0 }
}

/// No index or offset comes near it, so that "one further on" never overflows on a hostile value.
const COORDINATE_MAX: u64 = i64::MAX.cast_unsigned() - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use raftline_proto::entry::EntryBody;

    const GROUP: GroupId = GroupId(7);
    const BOOT: BootId = BootId(0xb007);

    fn id(term: u64, index: u64) -> EntryId {
        EntryId::new(Term(term), Index(index))
    }

    fn no_op(group: GroupId, id: EntryId) -> Bytes {
        let info = EntryInfo::new(group, id, Offset(3), EntryBody::NoOp);
        Bytes::copy_from_slice(&info.header.encode(&[]))
    }

    fn append(previous: EntryId) -> Message {
        Message::Append { term: Term(5), previous, commit: Index(2), ack: AckWanted::Memory, round: Round(7) }
    }

    /// Encodes, puts through the wire's bytes, and decodes.
    fn through_the_wire(message: Message, entries: Vec<Bytes>) -> Result<Inbound, Malformed> {
        let sent = encode(PeerMessage { group: GROUP, body: PeerBody::Raft { message, entries } }, BOOT);
        decode(pb::GroupMessage::decode(sent.encode_to_vec().as_slice()).unwrap())
    }

    #[test]
    fn every_message_comes_back_as_it_was() {
        let matched = AppendResult::Matched { durable: Index(4), received: Index(6), commit: Index(3) };
        let rejected = AppendResult::Rejected { previous: Index(9), hint: id(2, 4) };
        let term = Term(5);
        let messages = [
            Message::PreVote { term, last: id(4, 9) },
            Message::PreVoteReply { term, granted: true, leader: None },
            Message::PreVoteReply { term, granted: false, leader: Some(NodeId(3)) },
            Message::Vote { term, last: id(4, 9), transfer: true },
            Message::Vote { term, last: EntryId::ZERO, transfer: false },
            Message::VoteReply { term, granted: true },
            append(id(4, 9)),
            Message::Append {
                term,
                previous: EntryId::ZERO,
                commit: Index::ZERO,
                ack: AckWanted::Durable,
                round: Round(0),
            },
            Message::AppendReply { term, result: matched, round: Round(3) },
            Message::AppendReply { term, result: rejected, round: Round(0) },
            Message::TimeoutNow { term },
            Message::SteppedDown { term },
            Message::Vouched { term, entry: id(4, 9) },
            Message::Reset {
                term,
                start: LogStart { previous: id(3, 100), offset: Offset(77) },
                commit: Index(120),
            },
        ];
        for sent in messages {
            let Inbound::Raft { group, message, entries, payload } =
                through_the_wire(sent.clone(), Vec::new()).unwrap()
            else {
                panic!("{sent:?} came back as a sign of life")
            };
            assert_eq!((group, message), (GROUP, sent));
            assert!(entries.is_empty() && payload.is_none());
        }
        let condition =
            Condition { shards: 4, stuck: vec![1, 3], full: true, clock_off: true, replicas_max: 700 };
        let sign = Sign { wall: Timestamp(-5), condition };
        let body = PeerBody::Alive(sign.clone());
        let alive = encode(PeerMessage { group: GroupId::COORDINATOR, body }, BOOT);
        let Inbound::Alive { boot: BOOT, sign: come } = decode(alive).unwrap() else {
            panic!("no sign of life")
        };
        assert_eq!(come, sign);
    }

    #[test]
    fn entries_travel_whole_over_several_parts() {
        let parts = vec![no_op(GROUP, id(4, 10)), no_op(GROUP, id(5, 11))];
        let Inbound::Raft { entries, payload, .. } =
            through_the_wire(append(id(4, 9)), parts.clone()).unwrap()
        else {
            panic!("not a raft message")
        };
        assert_eq!(entries.iter().map(|entry| entry.header.id).collect::<Vec<_>>(), [id(4, 10), id(5, 11)]);
        assert_eq!(payload.unwrap(), parts.concat());
    }

    #[test]
    fn damaged_misdirected_and_unordered_entries_are_named() {
        let mut damaged = no_op(GROUP, id(4, 10)).to_vec();
        damaged[20] ^= 1;
        let cases = [
            (Bytes::from(damaged), "checksum mismatch"),
            (Bytes::from_static(b"short"), "cut short"),
            (no_op(GroupId(8), id(4, 10)), "addressed to group 8"),
            (no_op(GROUP, id(4, 11)), "does not follow entry 4.9"),
            (no_op(GROUP, id(3, 10)), "does not follow entry 4.9"),
        ];
        for (part, expected) in cases {
            let malformed = through_the_wire(append(id(4, 9)), vec![part]).unwrap_err();
            assert_eq!(malformed.cost(), Cost::Message);
            let found = malformed.to_string();
            assert!(found.contains(expected) && found.contains("group 7"), "{found}");
        }
    }

    #[test]
    fn a_whole_entry_that_is_not_understood_is_told_from_a_damaged_one() {
        let sealed = |mut entry: Vec<u8>| {
            let crc = crc32fast::hash(&entry[4..]);
            entry[..4].copy_from_slice(&crc.to_le_bytes());
            Bytes::from(entry)
        };
        let good = no_op(GROUP, id(4, 10));
        for at in [6, 7] {
            let mut newer = no_op(GROUP, id(4, 11)).to_vec();
            newer[at] = 99;
            let parts = vec![good.clone(), sealed(newer.clone())];
            let malformed = through_the_wire(append(id(4, 9)), parts).unwrap_err();
            assert_eq!(malformed.cost(), Cost::Replica(GROUP), "{malformed}");
            let parts = vec![good.clone(), Bytes::from(newer)];
            let malformed = through_the_wire(append(id(4, 9)), parts).unwrap_err();
            assert_eq!(malformed.cost(), Cost::Message, "{malformed}");
        }
    }

    #[test]
    fn hostile_fields_are_named() {
        let decode_body = |body| {
            let message = pb::GroupMessage { group: GROUP.0, message: body };
            decode(message).unwrap_err().to_string()
        };
        let vote = |term, last| Some(Body::Vote(pb::Vote { term, last, transfer: false }));
        assert!(decode_body(None).contains("without a body"));
        assert!(decode_body(vote(1, None)).contains("`last` is missing"));
        let last = Some(pb::EntryId { term: 1, index: u64::MAX });
        assert!(decode_body(vote(1, last)).contains("`last` is 18446744073709551615"));
        let last = Some(pb::EntryId::default());
        assert!(decode_body(vote(u64::MAX, last)).contains("`term`"));
        let reply = Some(Body::AppendReply(pb::AppendReply { term: 1, result: None, round: 0 }));
        assert!(decode_body(reply).contains("`result` is missing"));
    }
}
