//! The pulse's thread: hears of peers, tells them that this node lives, and tells the shards who does not.
//!
//! It is beside the shards' threads, does no I/O of its own and waits for nobody: neither a long turn nor a disk that hangs
//! keeps signs of life from being sent, or from being heard.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

use raftline_proto::ids::{BootId, GroupId, NodeId};
use raftline_proto::time::{Monotonic, Now};
use raftline_shard::pulse::{Beat, Condition, Pulse, Sign};
use raftline_shard::types::{Event, LivenessChange};

use crate::clock::Clock;
use crate::engine::AbortOnPanic;
use crate::handle::Shards;
use crate::limits;
use crate::payload::{PeerBody, PeerMessage, PeerSender};
use crate::view::NodeView;

/// What the pulse is told.
#[derive(Debug)]
pub(crate) enum News {
    /// A sign of life came.
    Sign { from: NodeId, boot: BootId, sign: Sign, at: Now },
    /// The connection to a peer stands.
    Connected { peer: NodeId, at: Monotonic },
    /// It broke.
    Disconnected { peer: NodeId, at: Monotonic },
    /// The peer's host says that nothing listens there.
    Refused { peer: NodeId },
    /// The disk takes no records, or does again.
    Full(bool),
    /// Whoever looks after this node has set its wall clock right.
    TrustClock { at: Now },
    /// The process stops.
    Stop,
}

/// The way to the pulse. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PulseLine(SyncSender<News>);

/// The pulse's end of it.
pub(crate) struct PulseInbox(pub(crate) Receiver<News>);

/// A way to the pulse.
pub(crate) fn line() -> (PulseLine, PulseInbox) {
    let (sender, receiver) = sync_channel(limits::PULSE_NEWS_MAX);
    (PulseLine(sender), PulseInbox(receiver))
}

impl PulseLine {
    /// Whoever looks after this node has set its wall clock right.
    pub(crate) fn trust_clock(&self, at: Now) {
        self.tell(News::TrustClock { at });
    }

    /// Never waits. What finds no room is lost, as on a network: the next sign of life says it again.
    pub(crate) fn tell(&self, news: News) {
        if let Err(TrySendError::Full(news)) = self.0.try_send(news) {
            tracing::warn!(?news, "the pulse's thread does not keep up");
        }
    }
}

/// Since when each shard has been at its turn, and its sync in flight: written by the shards' threads.
#[derive(Debug)]
pub(crate) struct Busy(Vec<ShardBusy>);

#[derive(Debug, Default)]
struct ShardBusy {
    /// Microseconds and one; 0: it is not.
    turn: AtomicU64,
    sync: AtomicU64,
}

/// What a shard can be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Turn,
    Sync,
}

impl Busy {
    pub(crate) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| ShardBusy::default()).collect())
    }

    /// The shard begins with something.
    pub(crate) fn begin(&self, shard: usize, at: At, now: Monotonic) {
        self.cell(shard, at).store(now.0.saturating_add(1), Ordering::Relaxed);
    }

    /// It is done with it.
    pub(crate) fn end(&self, shard: usize, at: At) {
        self.cell(shard, at).store(0, Ordering::Relaxed);
    }

    /// For each shard, since when it has been at whatever began first.
    fn since(&self) -> Vec<Option<Monotonic>> {
        let read = |cell: &AtomicU64| cell.load(Ordering::Relaxed).checked_sub(1).map(Monotonic);
        self.0.iter().map(|busy| read(&busy.turn).into_iter().chain(read(&busy.sync)).min()).collect()
    }

    fn cell(&self, shard: usize, at: At) -> &AtomicU64 {
        match at {
            At::Turn => &self.0[shard].turn,
            At::Sync => &self.0[shard].sync,
        }
    }
}

/// The pulse and what it is told by and tells.
pub(crate) struct PulseThread<S: PeerSender> {
    pub(crate) own: NodeId,
    /// How this node was, as last logged.
    pub(crate) said: Condition,
    pub(crate) pulse: Pulse,
    pub(crate) inbox: PulseInbox,
    pub(crate) clock: Clock,
    pub(crate) busy: Arc<Busy>,
    pub(crate) shards: Shards,
    pub(crate) view: Arc<NodeView>,
    pub(crate) peers: S,
}

impl<S: PeerSender> PulseThread<S> {
    pub(crate) fn spawn(self) -> io::Result<JoinHandle<()>> {
        Builder::new().name("pulse".to_owned()).spawn(move || {
            let _guard = AbortOnPanic;
            self.run();
        })
    }

    fn run(mut self) {
        let mut full = false;
        let mut beats = Vec::new();
        loop {
            match self.inbox.0.recv_timeout(self.pulse.deadline().since(self.clock.monotonic())) {
                Ok(News::Sign { from, boot, sign, at }) => {
                    self.pulse.heard(from, boot, sign, at, &mut beats);
                }
                Ok(News::Connected { peer, at }) => self.pulse.connected(peer, at, &mut beats),
                Ok(News::Disconnected { peer, at }) => self.pulse.disconnected(peer, at),
                Ok(News::Refused { peer }) => self.pulse.refused(peer, &mut beats),
                Ok(News::Full(now_full)) => full = now_full,
                Ok(News::TrustClock { at }) => self.pulse.trust_clock(at),
                Ok(News::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = self.clock.now();
            if self.pulse.deadline() <= now.monotonic {
                self.pulse.tick(now, &self.busy.since(), full, &mut beats);
            }
            for beat in beats.drain(..) {
                match beat {
                    Beat::Send { to, sign } => {
                        let body = PeerBody::Alive(sign);
                        // A full queue is as good as a lost message.
                        let _ = self.peers.send(to, PeerMessage { group: GroupId::COORDINATOR, body });
                    }
                    Beat::Tell { peer, change } => {
                        self.log(peer, &change);
                        if let LivenessChange::Condition(condition) = &change
                            && peer == self.own
                        {
                            self.shards.sinks().set_stuck(&condition.stuck);
                            self.said.clone_from(condition);
                        }
                        self.view.set_liveness(peer, &change, now.monotonic);
                        // Never refused: see `Shards::submit`.
                        let _ = self.shards.submit(Event::Liveness { peer, change });
                    }
                }
            }
            self.peers.flush();
            self.view.say_new_leaders(self.clock.monotonic());
        }
    }
}

impl<S: PeerSender> PulseThread<S> {
    fn log(&self, peer: NodeId, change: &LivenessChange) {
        match change {
            LivenessChange::Condition(condition) if peer == self.own => log_own(&self.said, condition),
            LivenessChange::Up => tracing::info!(%peer, "peer answers"),
            LivenessChange::Down => tracing::warn!(%peer, "peer is down: it does not answer"),
            LivenessChange::Reset => tracing::info!(%peer, "peer restarted, or is connected anew"),
            LivenessChange::Condition(Condition { stuck, full, clock_off, .. })
                if stuck.is_empty() && !full && !clock_off =>
            {
                tracing::info!(%peer, "peer is well");
            }
            LivenessChange::Condition(Condition { stuck, full, clock_off, .. }) => {
                tracing::warn!(%peer, stuck_shards = ?stuck, disk_full = full, clock_off, "peer is not well");
            }
        }
    }
}

/// That the disk is full is told where it is found out.
fn log_own(before: &Condition, now: &Condition) {
    match (now.stuck.as_slice(), before.stuck == now.stuck) {
        (_, true) => {}
        ([], _) => tracing::info!("all shards go on"),
        (stuck, _) => tracing::error!(
            shards = ?stuck,
            "shards do not go on: their thread, or the disk under them, hangs. Others take over what they lead; look \
             at the disk"
        ),
    }
    match (before.clock_off, now.clock_off) {
        (false, true) => tracing::error!(
            "this broker's wall clock jumped, or is more than a minute off the others': until it can be trusted, no \
             record goes here for its age. Set it right; it is trusted again once it has been near the median of \
             three brokers' clocks for a minute; with fewer brokers, say so: raftline cluster trust-clock NODE"
        ),
        (true, false) => tracing::info!("this broker's wall clock is trusted again"),
        (false, false) | (true, true) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_busy_since_the_first_of_what_it_is_at() {
        let busy = Busy::new(2);
        assert_eq!(busy.since(), [None, None]);
        busy.begin(1, At::Sync, Monotonic(0));
        busy.begin(1, At::Turn, Monotonic(7));
        assert_eq!(busy.since(), [None, Some(Monotonic(0))]);
        busy.end(1, At::Sync);
        assert_eq!(busy.since(), [None, Some(Monotonic(7))]);
        busy.end(1, At::Turn);
        assert_eq!(busy.since(), [None, None]);
    }

    #[test]
    fn a_line_that_nobody_reads_loses_news_and_waits_for_nobody() {
        let (line, _inbox) = line();
        for _ in 0..=limits::PULSE_NEWS_MAX {
            line.tell(News::Full(true));
        }
    }
}
