//! What goes into and comes out of the engine.

use alloc::vec::Vec;
use raftline_proto::ids::{EntryId, HardState, Index, Membership, NodeId, Offset, Term};

/// An entry as the engine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: EntryId,
    /// Its size in the log, header and payload.
    pub entry_bytes: u64,
    /// The membership it carries, if it is a membership entry.
    pub membership: Option<Membership>,
}

/// Where a log starts, after its prefix was trimmed away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStart {
    /// The entry before the log's first; [`EntryId::ZERO`] if nothing was ever trimmed.
    pub previous: EntryId,
    /// The offset of the log's first record. The engine only carries it along.
    pub offset: Offset,
}

/// Counts, within one term of leadership, how often a leader has asked whether it still leads; 0 is before it ever did.
/// Whoever answers an append tells the latest round that he has heard of in this term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round(pub u64);

/// What happened to the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// [`crate::Raft::deadline`] may have passed.
    Tick,
    /// A peer said something. `entries` are those that came with [`Message::Append`], in index order; empty otherwise.
    Message {
        /// Whose message; the transport has checked cluster, identity and incarnation.
        from: NodeId,
        /// What it said.
        message: Message,
        /// The entries beside an append.
        entries: &'a [Entry],
    },
    /// The log is on stable storage through this entry, as the log sees itself now (storage maps a finished sync's
    /// position to it). An id that the term map does not hold any more is ignored.
    ///
    /// It must be mapped after every output so far was carried out, and stepped before any input that came later:
    /// 1. (1, 8) is durable, and mapped, but its completion waits in a queue; 2. a leader of term 2 has it replaced;
    /// 3. a leader of term 3 brings (1, 8) back, as new bytes; 4. the completion is stepped, and vouches for them.
    LogDurable {
        /// The last durable entry.
        last: EntryId,
    },
    /// This hard state, and every earlier one, is on stable storage.
    HardStateDurable {
        /// What was saved.
        hard_state: HardState,
    },
    /// An [`Output::Replicate`] was carried out: what really left, given the log and the byte bound.
    Replicated {
        /// To whom.
        to: NodeId,
        /// The term it was ordered in; stale ones are dropped.
        term: Term,
        /// The first entry asked for.
        from: Index,
        /// One past the last entry that left; equal to `from` if none did.
        up_to: Index,
        /// Size of what left.
        bytes: u64,
        /// What became of it.
        outcome: ReplicateOutcome,
    },
    /// The log could not keep what an [`Output::Append`] or [`Output::Accept`] ordered (a full disk): it ends here.
    /// A leader steps down; nothing that was durable is affected.
    AppendFailed {
        /// The last entry that the log really holds.
        last: EntryId,
    },
    /// The peer's node answers again, or for the first time.
    PeerUp {
        /// Which node.
        node: NodeId,
    },
    /// The peer's node has been silent for too long, or was seen to die.
    PeerDown {
        /// Which node.
        node: NodeId,
    },
    /// The connection to the peer's node was made anew or its process restarted: what was in flight may be lost,
    /// and if it led this group it may not any more.
    PeerReset {
        /// Which node.
        node: NodeId,
    },
    /// Hand leadership over: to this peer, or to the best placed one.
    Transfer {
        /// To whom.
        to: Option<NodeId>,
    },
    /// The log's prefix was trimmed away (retention): it starts here now.
    Trimmed {
        /// Where it starts.
        start: LogStart,
    },
}

/// What became of an [`Output::Replicate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicateOutcome {
    /// It was handed to the transport.
    Sent,
    /// The transport's queue to that peer is full: try again on the next resend deadline.
    Busy,
    /// The log's first entry is later than `from`: the follower has to start anew at the log's start.
    Trimmed,
}

/// What the driver must do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make this hard state durable and answer [`Input::HardStateDurable`].
    SaveHardState(HardState),
    /// Append this entry as the leader, and start making it durable. The driver knows the payload: it is the proposal
    /// just made, the no-op, or the membership named here.
    Append(Entry),
    /// Append the entries beside the message being stepped, without the first `skip`, and start making them durable.
    Accept {
        /// How many leading entries the log holds already.
        skip: usize,
    },
    /// Cut the log so that `from` and all after it are gone. Always before an `Accept` of the same step.
    Truncate {
        /// The first entry to go. Invariant: above the commit index.
        from: Index,
    },
    /// Throw the whole log away and begin anew at `start`: everything before it was committed and then trimmed
    /// by the leader. Once that is durable, answer [`Input::LogDurable`] with `start.previous`, or with a later entry
    /// that is durable too.
    Reset {
        /// Where the new log starts.
        start: LogStart,
    },
    /// Send entries `[from, up_to)` out of the log, as many whole ones as fit into `bytes_max` but at least one, with
    /// `Append { term, previous, commit, .. }`; answer at once with [`Input::Replicated`].
    Replicate {
        /// To whom.
        to: NodeId,
        /// The leader's term.
        term: Term,
        /// The entry before `from`.
        previous: EntryId,
        /// The first entry to send.
        from: Index,
        /// One past the last; equal to `from` for a bare probe or commit notice.
        up_to: Index,
        /// The window left.
        bytes_max: u64,
        /// The leader's commit index.
        commit: Index,
        /// Whether the follower should answer before it has synced (memory acknowledgements are awaited).
        ack: AckWanted,
        /// The leader's latest question whether it still leads.
        round: Round,
    },
    /// Send a message without entries.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// The commit index moved: entries through here are committed.
    Committed {
        /// The new commit index.
        through: Index,
    },
    /// A majority holds entries through here at least in memory. Never below the commit index. Leaders only.
    Received {
        /// The new index.
        through: Index,
    },
    /// A majority of the voters followed this leader after round `through` of [`crate::Raft::confirm`] had begun: nobody
    /// of a later term can have committed anything before. Leaders only.
    Confirmed {
        /// The latest such round.
        through: Round,
    },
    /// The role, the term or the known leader changed.
    RoleChanged {
        /// The new role.
        role: Role,
        /// The current term.
        term: Term,
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// The membership in force changed (an entry was appended, replayed or truncated).
    MembershipChanged(Membership),
    /// Something that cannot happen did; the group is to be quarantined or the process stopped.
    Alarm(Alarm),
}

/// What a replica is (Raft §5.1, with pre-vote from §9.6 of the thesis).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows `leader`, or waits for one.
    Follower,
    /// Asks whether it could win, without raising the term.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// Which acknowledgements a leader waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckWanted {
    /// When durable.
    Durable,
    /// When held in memory, and again when durable.
    Memory,
}

/// What replicas of a group say to each other. Identity travels beside it, in the transport's envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// "Could I win `term`?" Changes nobody's state.
    PreVote {
        /// The term that would be campaigned for: the sender's plus one.
        term: Term,
        /// The sender's last entry.
        last: EntryId,
    },
    /// The answer.
    PreVoteReply {
        /// The term asked about if granted, else the replier's term.
        term: Term,
        /// The answer.
        granted: bool,
        /// Whom the replier follows, if it refused because a leader is alive.
        leader: Option<NodeId>,
    },
    /// "Vote for me in `term`" (RequestVote, Raft figure 2).
    Vote {
        /// The candidate's term.
        term: Term,
        /// The candidate's last entry.
        last: EntryId,
        /// Whether the old leader asked for this election: then live leaders do not protect themselves.
        transfer: bool,
    },
    /// The answer.
    VoteReply {
        /// The replier's term.
        term: Term,
        /// The answer.
        granted: bool,
    },
    /// AppendEntries (Raft figure 2). The entries travel beside it.
    Append {
        /// The leader's term.
        term: Term,
        /// The entry before the first one sent.
        previous: EntryId,
        /// The leader's commit index.
        commit: Index,
        /// Which acknowledgements are wanted.
        ack: AckWanted,
        /// The leader's latest question whether it still leads.
        round: Round,
    },
    /// The answer to appends, cumulative.
    AppendReply {
        /// The replier's term.
        term: Term,
        /// What it holds.
        result: AppendResult,
        /// The latest round heard of in this term: the replier followed its leader after that had begun.
        round: Round,
    },
    /// "Campaign now, without waiting" (leadership transfer, thesis §3.10).
    TimeoutNow {
        /// The leader's term.
        term: Term,
    },
    /// "I lead this term no more": followers stop waiting for the sender.
    SteppedDown {
        /// The term it led.
        term: Term,
    },
    /// "You said in this term that you have this entry on stable storage", to one whose answer says that it does not.
    Vouched {
        /// The leader's term.
        term: Term,
        /// The entry.
        entry: EntryId,
    },
    /// "My log starts here: throw yours away and begin there", where the follower's log ends earlier.
    Reset {
        /// The leader's term.
        term: Term,
        /// Where the leader's log starts.
        start: LogStart,
        /// The leader's commit index.
        commit: Index,
    },
}

/// How an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendResult {
    /// The follower's log agrees with the leader's.
    Matched {
        /// Durable through here.
        durable: Index,
        /// Held at least in memory through here.
        received: Index,
        /// The follower's commit index.
        commit: Index,
    },
    /// The follower's log does not hold `previous`.
    Rejected {
        /// The `previous` that was refused, to tell a late reply from a fresh one.
        previous: Index,
        /// Where to try next: the follower's log agrees with no entry after this one (its last entry before
        /// `previous` whose term is not later than that of `previous`).
        hint: EntryId,
    },
}

/// Why a proposal was not taken. The proposer may try again elsewhere or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// Another node leads, or none.
    NotLeader {
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over.
    Transferring {
        /// To whom.
        to: NodeId,
    },
    /// Too many bytes or entries wait for a majority.
    Busy,
    /// The proposed membership has other voters than the one in force: that needs joint consensus.
    VotersDiffer,
}

/// What cannot happen unless there is a bug, or a peer or disk lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// Two leaders in one term: election safety is broken somewhere.
    TwoLeaders {
        /// The term.
        term: Term,
        /// Whom we follow, or ourselves.
        known: NodeId,
        /// Who else claims it.
        other: NodeId,
    },
    /// A leader asked us to drop a committed entry.
    TruncateCommitted {
        /// The first entry that would go.
        from: Index,
        /// Our commit index.
        commit: Index,
    },
    /// A follower claims entries that this leader never had.
    MatchPastEnd {
        /// The follower.
        node: NodeId,
        /// What it claims.
        claimed: Index,
        /// Our last entry.
        last: Index,
    },
    /// This replica vouched for an entry and does not hold it any more: its disk lost what it had said to be safe. It must
    /// not help to elect anybody.
    Lost {
        /// The leader that heard it vouch.
        leader: NodeId,
        /// What it vouched for.
        vouched: EntryId,
        /// Where its log ends.
        last: EntryId,
    },
    /// No term is left to campaign for: nothing raises terms this far but a peer that lies. It follows and votes still.
    NoTermLeft {
        /// The current term, which is the last one.
        term: Term,
    },
    /// An append's entries are not consecutive, or their terms fall or pass the leader's.
    MalformedAppend {
        /// Who sent it.
        from: NodeId,
        /// The first offending entry.
        entry: EntryId,
    },
}

/// What the log and the hard-state file held at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// As saved; default if never.
    pub hard_state: HardState,
    /// Where the log starts; default if nothing was ever trimmed.
    pub start: LogStart,
    /// The first index of each term in the log, ascending in both.
    pub term_starts: Vec<EntryId>,
    /// The last entry, equal to `start.previous` if the log is empty. All of it is durable.
    pub last: EntryId,
    /// An index known to be committed, at most `last`; zero if unknown.
    pub commit_hint: Index,
    /// Every membership entry in the log, with its index, ascending.
    pub memberships: Vec<(Index, Membership)>,
}
