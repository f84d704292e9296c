//! The engine: shard threads, the pulse, the sync pool and the preallocator of one broker, started and stopped together.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use raftline_proto::ids::NodeId;
use raftline_shard::config::ShardConfig;
use raftline_shard::pulse::{Condition, Pulse};
use raftline_shard::types::{DiskSpace, Event};
use raftline_storage::{RealDisk, StateError};
use tokio::sync::mpsc;

use crate::ballast;
use crate::capacity;
use crate::clock::Clock;
use crate::executor::{CompactionJob, Executor, OpenJob, Removal};
use crate::handle::Shards;
use crate::inbox::{self, InboxBounds};
use crate::lanes::{Lanes, Queued};
use crate::limits;
use crate::payload::PeerSender;
use crate::preallocator::{Finding, Preallocator};
use crate::pulse::{self, Busy, News, PulseLine, PulseThread};
use crate::scrubber::Scrubber;
use crate::shard_dirs::{self, ShardDirsError};
use crate::shard_thread::{Links, Notice, ShardThread};
use crate::sync_pool::SyncPool;
use crate::view::NodeView;

/// What an engine is started with.
pub struct EngineOptions {
    /// The disk that holds `data_dir`.
    pub disk: RealDisk,
    /// The broker's directory. It exists and is locked by this process.
    pub data_dir: PathBuf,
    /// The process's clock.
    pub clock: Clock,
    /// One per shard, in order.
    pub shards: Vec<ShardConfig>,
    /// Threads that sync files, at most.
    pub sync_lanes: usize,
    /// What the directory must hold: see [`shard_dirs::check_promised`].
    pub promised: Vec<u64>,
    /// What is to be kept free on the disk; `None`: [`default_reserve`].
    pub reserve_bytes: Option<u64>,
}

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A shard's hard states cannot be read: without them nothing here may vote.
    #[error(transparent)]
    State(#[from] StateError),
    /// The state files are not those of the shards that are to start.
    #[error(transparent)]
    ShardDirs(#[from] ShardDirsError),
    /// A thread could not be started, or the disk could not be asked for its size.
    #[error("the broker's threads could not be started: {0}")]
    Io(#[from] io::Error),
}

/// A running engine.
pub struct Engine {
    shards: Shards,
    view: Arc<NodeView>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    pulse: PulseLine,
    pulse_thread: JoinHandle<()>,
    pool: Arc<SyncPool<RealDisk>>,
    openers: Arc<Lanes<(usize, OpenJob<RealDisk>)>>,
    remover: Arc<Lanes<(usize, Removal<RealDisk>)>>,
    compactor: Arc<Lanes<(usize, CompactionJob<RealDisk>)>>,
    preallocator: Preallocator<RealDisk>,
    scrubber: Scrubber,
    drained: mpsc::UnboundedReceiver<usize>,
    generations: Vec<u64>,
    reserve_bytes: u64,
}

impl Engine {
    /// Starts all threads. `peers` makes each shard's way out to the peers.
    ///
    /// # Errors
    /// If a shard's state cannot be read or a thread cannot be started.
    pub fn start<S: PeerSender>(
        options: EngineOptions,
        mut peers: impl FnMut(usize) -> S,
    ) -> Result<Self, EngineError> {
        let EngineOptions { disk, data_dir, clock, shards: configs, sync_lanes, promised, reserve_bytes } =
            options;
        shard_dirs::check_promised(&disk, &data_dir, &promised)?;
        shard_dirs::check(&disk, &data_dir, configs.len())?;
        let reserve_bytes = match reserve_bytes {
            Some(reserve_bytes) => reserve_bytes,
            None => default_reserve(&data_dir)?,
        };
        let capacity = capacity::of_this_process(&data_dir)?;
        tracing::info!(replicas = capacity.replicas, bound = %capacity.bound, "so many replicas fit here");
        let (senders, receivers): (Vec<_>, Vec<_>) =
            configs.iter().map(|_| inbox::inbox(InboxBounds::default())).unzip();
        let shards = Shards::new(senders);
        let view = Arc::new(NodeView::default());
        let (pulse, pulse_inbox) = pulse::line();
        let busy = Arc::new(Busy::new(configs.len()));
        let pool = {
            let shards = shards.clone();
            let done = move |shard, round, result| shards.notify(shard, Notice::Synced { round, result });
            Arc::new(SyncPool::start(sync_lanes, Arc::new(done))?)
        };
        let openers = {
            let shards = shards.clone();
            let open = move |(shard, job): (usize, OpenJob<RealDisk>)| {
                shards.notify(shard, Notice::Opened(Box::new(job.run())));
            };
            Arc::new(Lanes::start("open", limits::OPEN_LANES, open)?)
        };
        let remover = {
            let shards = shards.clone();
            let remove = move |(shard, removal): (usize, Removal<RealDisk>)| {
                shards.notify(shard, Notice::Removed(Box::new(removal.run())));
            };
            Arc::new(Lanes::start("remove", limits::REMOVAL_LANES, remove)?)
        };
        let compactor = {
            let shards = shards.clone();
            let compact = move |(shard, job): (usize, CompactionJob<RealDisk>)| {
                shards.notify(shard, Notice::Compacted(Box::new(job.run())));
            };
            Arc::new(Lanes::start("compact", limits::COMPACTION_LANES, compact)?)
        };
        let preallocator = {
            let (shards, pulse, kept_in) = (shards.clone(), pulse.clone(), data_dir.clone());
            Preallocator::start(
                disk.clone(),
                data_dir.clone(),
                reserve_bytes,
                move |finding| match finding {
                    Finding::Allocated { shard, group, allocation, result } => {
                        shards.notify(shard, Notice::Allocated { group, allocation, result });
                    }
                    Finding::Space(space) => {
                        tracing::warn!(?space, "free space on the data directory's disk crossed the reserve");
                        if space == DiskSpace::Enough
                            && let Err(error) = ballast::keep(&kept_in)
                        {
                            tracing::warn!(%error, "no room could be kept for the next start");
                        }
                        pulse.tell(News::Full(space != DiskSpace::Enough));
                        // Never refused: see `Shards::submit`.
                        let _ = shards.submit(Event::DiskSpace(space));
                    }
                },
            )?
        };
        let scrubber = {
            let shards = shards.clone();
            let count = configs.len() as u64;
            Scrubber::start(disk.clone(), data_dir.join("groups"), move |suspect| {
                let shard = usize::try_from(suspect.group.0 % count).expect("one of the shards");
                shards.notify(shard, Notice::Suspect(suspect));
            })?
        };
        let (drained_sender, drained) = mpsc::unbounded_channel();
        let pulse_thread = PulseThread {
            own: configs.first().map_or(NodeId(0), |config| config.node),
            said: Condition::default(),
            pulse: heart(&configs, capacity.replicas, clock),
            inbox: pulse_inbox,
            clock,
            busy: Arc::clone(&busy),
            shards: shards.clone(),
            view: Arc::clone(&view),
            peers: peers(configs.len()),
        };
        let pulse_thread = pulse_thread.spawn()?;
        let mut threads = Vec::with_capacity(configs.len());
        let mut generations = Vec::with_capacity(configs.len());
        for (number, (config, inbox)) in configs.into_iter().zip(receivers).enumerate() {
            let named = Arc::clone(&view);
            let executor = Executor::new(disk.clone(), &data_dir, config.shard)?
                .named_by(Arc::new(move |group| named.place_of(group)));
            generations.push(executor.state_generation());
            let links = Links {
                shard: number,
                shards: shards.clone(),
                view: Arc::clone(&view),
                pool: Arc::clone(&pool),
                openers: Arc::clone(&openers),
                remover: Arc::clone(&remover),
                compactor: Arc::clone(&compactor),
                allocations: preallocator.allocations(),
                drained: drained_sender.clone(),
                busy: Arc::clone(&busy),
            };
            threads.push(ShardThread::spawn(config, clock, executor, inbox, links, peers(number))?);
        }
        Ok(Self {
            shards,
            view,
            threads,
            pulse,
            pulse_thread,
            pool,
            openers,
            remover,
            compactor,
            preallocator,
            scrubber,
            drained,
            generations,
            reserve_bytes,
        })
    }

    /// The way to the shards.
    #[must_use]
    pub const fn shards(&self) -> &Shards {
        &self.shards
    }

    /// The way to the pulse.
    #[must_use]
    pub const fn pulse(&self) -> &PulseLine {
        &self.pulse
    }

    /// What the shards publish.
    #[must_use]
    pub const fn view(&self) -> &Arc<NodeView> {
        &self.view
    }

    /// The generations of the shards' state files, to be promised by the directory's identity.
    #[must_use]
    pub fn generations(&self) -> &[u64] {
        &self.generations
    }

    /// What is kept free on the disk.
    #[must_use]
    pub const fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// Hands leaderships over and refuses new writes, until nothing leads here or `at_most` has passed. Sockets have
    /// to stay up meanwhile. Says whether every shard got there.
    pub async fn drain(&mut self, at_most: Duration) -> bool {
        let shards = self.shards.count();
        // Never refused: see `Shards::submit`.
        let _ = self.shards.submit(Event::Drain);
        let all = async {
            for _ in 0..shards {
                self.drained.recv().await;
            }
        };
        tokio::time::timeout(at_most, all).await.is_ok()
    }

    /// Stops all threads after a last sync and flush. Blocks: not for an async worker.
    ///
    /// # Errors
    /// If the last flush failed: the floors may lag behind then, nothing else.
    pub fn stop(self) -> io::Result<()> {
        self.scrubber.stop();
        for shard in 0..self.shards.count() {
            self.shards.notify(shard, Notice::Stop);
        }
        let mut result = Ok(());
        for thread in self.threads {
            // A shard thread that panics aborts the process.
            if let Ok(Err(error)) = thread.join() {
                result = Err(error);
            }
        }
        self.pulse.tell(News::Stop);
        // A thread that panics aborts the process.
        let _ = self.pulse_thread.join();
        self.preallocator.stop();
        if let Some(openers) = Arc::into_inner(self.openers) {
            openers.stop(Queued::Drop);
        }
        if let Some(remover) = Arc::into_inner(self.remover) {
            remover.stop(Queued::Drop);
        }
        if let Some(compactor) = Arc::into_inner(self.compactor) {
            compactor.stop(Queued::Drop);
        }
        if let Some(pool) = Arc::into_inner(self.pool) {
            pool.stop();
        }
        result
    }
}

/// The node's pulse: all shards are configured alike.
fn heart(shards: &[ShardConfig], replicas_max: u32, clock: Clock) -> Pulse {
    let first = shards.first().expect("a node has at least one shard");
    let peers = first.peers.iter().copied();
    Pulse::new(first.node, first.shards, first.timings, peers, clock.monotonic()).holding(replicas_max)
}

/// What is kept free unless configured: [`limits::DISK_RESERVE_BYTES`] or a twentieth of the disk, whichever is
/// smaller.
///
/// # Errors
/// If the file system cannot be asked.
pub fn default_reserve(data_dir: &std::path::Path) -> io::Result<u64> {
    let facts = rustix::fs::statvfs(data_dir)?;
    Ok(limits::DISK_RESERVE_BYTES.min(facts.f_blocks.saturating_mul(facts.f_frsize) / 20))
}

/// Aborts the process if its thread panics: a broker that goes on without one of its threads would hang its clients
/// and hold its leaderships for ever.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
