//! The leader's view of one peer, and what to send it next.

use crate::config::Config;
use crate::limits;
use crate::types::Round;
use alloc::collections::VecDeque;
use core::time::Duration;
use raftline_proto::ids::{Index, NodeId};
use raftline_proto::time::Monotonic;

/// The leader's view of one peer, in one term of leadership.
///
/// Invariants: `matched <= received <= last`; `matched < next`; `received < next` while streaming;
/// `log.start.previous.index < next <= last + 1`.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Which peer.
    pub(crate) node: NodeId,
    /// Whether its node answers. A peer that is down is paused: no message, no timer.
    pub(crate) alive: bool,
    /// Known durable there, and the same as here. Never falls: replies may come late or twice.
    pub(crate) matched: Index,
    /// Known to be held there at least in memory, and the same as here. Falls with a reset.
    pub(crate) received: Index,
    /// The commit index that it last told.
    pub(crate) commit: Index,
    /// The next entry to send.
    pub(crate) next: Index,
    /// How it is sent to.
    pub(crate) phase: Phase,
    /// One past the last entry sent before the stream was last broken off: see [`Self::rejects_fresh`].
    broken_at: Index,
    /// Whether a bare append is due, whatever else is: it asked whether we lead.
    pub(crate) notice: Notice,
    /// The latest round that it has answered: it followed us after that had begun.
    pub(crate) confirmed: Round,
    /// The round that it is to answer, whatever else it holds.
    wanted: Round,
    /// The round last handed to the transport for it.
    sent_round: Round,
    /// The commit index last handed to the transport for it.
    sent_commit: Index,
    /// An order that was not answered by `Replicated` yet.
    ordered: Option<Order>,
    /// One past the last entry and the bytes of each message sent and not acknowledged, oldest first.
    in_flight: VecDeque<(Index, u64)>,
    in_flight_bytes: u64,
    /// When to ask again if nothing moves. Invariant: set while alive, asked and not at rest.
    resend_at: Option<Monotonic>,
    /// When to try a full transport queue again. Until then nothing else is due for it.
    busy_until: Option<Monotonic>,
    /// How long was waited for that last: it doubles until the peer gives a sign of life. One whose node we hear and
    /// cannot reach (a link broken in one direction) would otherwise be tried at the full rate, for each group.
    busy_wait: Option<Duration>,
    /// Since when it has been asked without any answer.
    asked_since: Option<Monotonic>,
}

/// How a peer is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Where its log agrees with ours is being found out: one message at a time, `next` stays put.
    Probe {
        /// What the probe brings along.
        carry: Carry,
        /// Whether it has left.
        sent: Sent,
    },
    /// Entries are sent ahead of acknowledgements, within the windows.
    Stream,
}

/// What a probe brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carry {
    /// Entries, as it will probably match.
    Entries,
    /// Nothing: the peer may have it all already.
    Nothing,
}

/// Whether something has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Waiting for the answer.
    Yes,
    /// To be sent.
    No,
}

/// Whether a bare append is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Yes.
    Due,
    /// No.
    None,
}

/// What to send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The first entry.
    pub(crate) from: Index,
    /// One past the last one.
    pub(crate) up_to: Index,
    /// How much of it.
    pub(crate) bytes_max: u64,
    /// The commit index told with it.
    pub(crate) commit: Index,
    /// The round told with it.
    pub(crate) round: Round,
}

impl Progress {
    /// A peer of which a new leader knows nothing: its log probably ends where ours does.
    pub(crate) const fn new(node: NodeId, alive: bool, next: Index) -> Self {
        Self {
            node,
            alive,
            matched: Index::ZERO,
            received: Index::ZERO,
            commit: Index::ZERO,
            next,
            phase: Phase::Probe { carry: Carry::Entries, sent: Sent::No },
            broken_at: Index::ZERO,
            notice: Notice::None,
            confirmed: Round(0),
            wanted: Round(0),
            sent_round: Round(0),
            sent_commit: Index::ZERO,
            ordered: None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            resend_at: None,
            busy_until: None,
            busy_wait: None,
            asked_since: None,
        }
    }

    /// Bytes sent and not acknowledged.
    pub(crate) const fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    /// Whether it has all that we have, knows it committed and was asked nothing: nothing to send, nothing to wait for.
    pub(crate) fn at_rest(&self, last: Index, commit: Index) -> bool {
        self.phase == Phase::Stream
            && self.matched == last
            && self.commit >= commit
            && self.confirmed >= self.wanted
    }

    /// Whether it leaves us without any answer for `span`.
    pub(crate) fn is_silent(&self, now: Monotonic, span: core::time::Duration) -> bool {
        self.asked_since.is_some_and(|since| now >= since + span)
    }

    /// When something is to be done for it.
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        if !self.alive {
            return None;
        }
        self.busy_until.or(self.resend_at)
    }

    /// What to send now, if anything; it counts as ordered until [`Self::ordered_done`].
    pub(crate) fn order(
        &mut self,
        last: Index,
        (commit, round): (Index, Round),
        config: &Config,
    ) -> Option<Order> {
        if self.ordered.is_some() {
            return None;
        }
        let order = self.next_order(last, (commit, round), config)?;
        assert!(self.matched < order.from, "{}: entry {} is matched already", self.node, order.from);
        assert!(order.from <= order.up_to, "an order ends before it begins");
        assert!(order.up_to <= last.next(), "an order passes the log's end");
        self.ordered = Some(order);
        self.notice = Notice::None;
        Some(order)
    }

    fn next_order(&self, last: Index, (commit, round): (Index, Round), config: &Config) -> Option<Order> {
        let next = self.next;
        let bare = Order { from: next, up_to: next, bytes_max: 0, commit, round };
        let notice = match self.notice {
            Notice::Due => Some(bare),
            Notice::None => None,
        };
        if !self.alive || self.busy_until.is_some() {
            return notice;
        }
        match self.phase {
            Phase::Probe { sent: Sent::Yes, .. } => notice,
            Phase::Probe { carry: Carry::Nothing, sent: Sent::No } => Some(bare),
            Phase::Probe { carry: Carry::Entries, sent: Sent::No } => {
                let bytes_max = limits::PROBE_BYTES_MAX.min(config.in_flight_bytes_max);
                Some(Order { up_to: last.next(), bytes_max, ..bare })
            }
            Phase::Stream => {
                let window = config.in_flight_bytes_max.saturating_sub(self.in_flight_bytes);
                if next <= last && window > 0 && self.in_flight.len() < config.in_flight_messages_max {
                    Some(Order { up_to: last.next(), bytes_max: window, ..bare })
                } else if self.sent_commit < commit || self.sent_round < self.wanted {
                    Some(bare)
                } else {
                    notice
                }
            }
        }
    }

    /// An order left, through `up_to`.
    pub(crate) fn ordered_sent(
        &mut self,
        from: Index,
        up_to: Index,
        bytes: u64,
        now: Monotonic,
        config: &Config,
    ) {
        let Some(order) = self.ordered.take() else { return };
        if up_to == from && order.up_to > order.from {
            // Entries were ordered and none left: the log could not give them now.
            self.wait_busy(now, config);
            return;
        }
        self.sent_commit = self.sent_commit.max(order.commit);
        self.sent_round = self.sent_round.max(order.round);
        self.asked_since.get_or_insert(now);
        self.resend_at.get_or_insert(now + config.resend);
        if from != self.next {
            // A reply moved `next` while the order was out; what left is extra.
            return;
        }
        match self.phase {
            Phase::Probe { carry, sent: _ } => self.phase = Phase::Probe { carry, sent: Sent::Yes },
            Phase::Stream if up_to > from => {
                self.in_flight.push_back((up_to, bytes));
                self.in_flight_bytes += bytes;
                self.next = up_to;
            }
            Phase::Stream => {}
        }
    }

    /// The transport's queue was full.
    pub(crate) fn ordered_busy(&mut self, now: Monotonic, config: &Config) {
        self.ordered = None;
        self.wait_busy(now, config);
    }

    /// The log no longer has the first entry asked for; the news of where it starts now is on its way here.
    pub(crate) fn ordered_trimmed(&mut self, now: Monotonic, config: &Config) {
        self.ordered = None;
        self.probe(self.next, Phase::Probe { carry: Carry::Nothing, sent: Sent::Yes });
        self.resend_at = Some(now + config.resend);
    }

    fn wait_busy(&mut self, now: Monotonic, config: &Config) {
        let first = config.resend / limits::BUSY_RETRY_FRACTION;
        let wait = self.busy_wait.map_or(first, |wait| (wait * 2).min(limits::BUSY_RETRY_MAX));
        self.busy_wait = Some(wait);
        self.busy_until = Some(now + wait);
    }

    /// It is asked whether it still follows.
    pub(crate) fn ask(&mut self, round: Round) {
        self.wanted = round;
    }

    /// Any answer to anything.
    pub(crate) fn heard(&mut self) {
        self.asked_since = None;
        self.not_busy();
    }

    /// It gave a sign of life, or is another process: its queue may be tried at once.
    fn not_busy(&mut self) {
        self.busy_until = None;
        self.busy_wait = None;
    }

    /// It holds our log through `received`, on stable storage through `matched`.
    ///
    /// Neither lowers `matched`: replies overtake each other, and an older one is still true.
    /// `start` is where our log begins: nothing before it can be sent.
    pub(crate) fn acknowledged(
        &mut self,
        matched: Index,
        received: Index,
        commit: Index,
        start: Index,
    ) -> bool {
        let moved = matched > self.matched || received > self.received || commit > self.commit;
        self.matched = self.matched.max(matched);
        self.received = self.received.max(received);
        self.commit = self.commit.max(commit);
        match self.phase {
            Phase::Probe { .. } => self.probe(self.received.max(start).next(), Phase::Stream),
            Phase::Stream => {
                while let Some((up_to, bytes)) = self.in_flight.front().copied() {
                    if up_to > self.received.next() {
                        break;
                    }
                    self.in_flight.pop_front();
                    self.in_flight_bytes -= bytes;
                }
                self.next = self.next.max(self.received.next());
            }
        }
        moved
    }

    /// Sets the time to ask again: from now if something moved, none at rest.
    pub(crate) fn rearm(&mut self, moved: bool, last: Index, commit: Index, now: Monotonic, config: &Config) {
        if self.at_rest(last, commit) {
            self.resend_at = None;
        } else if moved || self.resend_at.is_none() {
            self.resend_at = Some(now + config.resend);
        }
    }

    /// Whether a rejection of `previous` answers what was sent last, and not something older.
    ///
    /// A late one taken for fresh moves `next` back for nothing; worse, it multiplies:
    /// 1. a stream of 64 messages arrives out of order, and 30 of them are rejected;
    /// 2. the first rejection breaks the stream off, any older acknowledgement opens it again: 64 messages leave;
    /// 3. the second rejection does the same: 30 streams for one, and the next round 900.
    ///
    /// So a rejection breaks the stream off only if what it rejects was first sent after the last break. If what was
    /// sent again is lost as well, the resend time finds it.
    pub(crate) fn rejects_fresh(&self, previous: Index) -> bool {
        match self.phase {
            Phase::Probe { .. } => previous.next() == self.next,
            Phase::Stream => previous >= self.broken_at && previous > self.received && previous < self.next,
        }
    }

    /// Finds out anew where the logs agree, from `next` on.
    pub(crate) fn probe(&mut self, next: Index, phase: Phase) {
        assert!(next > self.matched, "{}: probing below what is matched", self.node);
        if self.phase == Phase::Stream {
            self.broken_at = self.next;
        }
        self.next = next;
        self.phase = phase;
        self.received = self.received.min(Index(next.get() - 1)).max(self.matched);
        self.in_flight.clear();
        self.in_flight_bytes = 0;
    }

    /// Nothing moved for long: asks what has become of it. An entry may be lost, or its sync may be slow; in the
    /// second case sending it all again would make matters worse, so the probe is bare.
    pub(crate) fn ask_again(&mut self, now: Monotonic, start: Index, config: &Config) {
        let next = match self.phase {
            Phase::Stream => self.received.max(start).next(),
            Phase::Probe { .. } => self.next,
        };
        self.probe(next, Phase::Probe { carry: Carry::Nothing, sent: Sent::No });
        self.resend_at = Some(now + config.resend);
    }

    /// Its node restarted, came back or has a new connection: what it had in memory only may be gone, and what was
    /// in flight as well.
    pub(crate) fn reset(&mut self, now: Monotonic, start: Index, config: &Config) {
        let next = if self.matched > Index::ZERO { self.matched.next() } else { self.next };
        self.probe(next.max(start.next()), Phase::Probe { carry: Carry::Nothing, sent: Sent::No });
        self.received = self.matched;
        self.commit = Index::ZERO;
        self.asked_since = None;
        self.not_busy();
        self.resend_at = Some(now + config.resend);
    }

    /// Its node is down.
    pub(crate) fn pause(&mut self) {
        self.alive = false;
        self.resend_at = None;
        self.not_busy();
        self.asked_since = None;
    }

    /// Whether it is time to ask again, or to try a full queue again.
    pub(crate) fn due(&mut self, now: Monotonic, start: Index, config: &Config) {
        if !self.alive {
            return;
        }
        if self.busy_until.is_some_and(|until| now < until) {
            return;
        }
        self.busy_until = None;
        if self.resend_at.is_some_and(|at| at <= now) {
            self.ask_again(now, start, config);
        }
    }
}
