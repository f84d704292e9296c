//! One simulated node: a disk that stays, and a process that comes and goes. The process is the real shard and the
//! real executor; what is missing is only what the world replaces.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use raftline_broker::executor::{Executor, SyncRound};
use raftline_broker::payload::Payload;
use raftline_proto::ids::{BootId, GroupId, Incarnation, NodeId};
use raftline_proto::time::{Monotonic, Now, Timestamp};
use raftline_shard::Shard;
use raftline_shard::config::{ShardConfig, TopicDefaults};
use raftline_shard::pulse::Pulse;
use raftline_shard::types::{Effect, Event};
use raftline_storage::{Disk, SimDisk, SyncPart};

use super::facts::Life;
use super::plan::Plan;
use super::world::new_pulse;

/// A machine: its disk, and the process on it, if one runs.
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// Outlives every process.
    pub disk: SimDisk,
    /// Made when the directory was formatted.
    pub incarnation: Incarnation,
    /// How often a process was started here.
    pub starts: u32,
    /// The process, while it runs.
    pub process: Option<Process>,
    /// How far the wall clock is off, in milliseconds.
    pub wall_skew: i64,
    /// The process is stopped until then.
    pub paused_until: Monotonic,
    /// Syncs are slow until then.
    pub slow_until: Monotonic,
    /// Syncs that begin before then end after it.
    pub hangs_until: Monotonic,
    /// The disk is full now.
    pub is_full: bool,
    /// A sync is going to fail, or just did.
    pub sync_fails: bool,
    /// The process dies after so many more effects, if set, and how.
    pub dies_after: Option<(usize, Death)>,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Killed: what it had written is in the page cache.
    Kill,
    /// The machine lost power.
    PowerLoss,
}

/// A running process.
pub struct Process {
    /// Which of the node's lives.
    pub life: Life,
    /// As peers see it.
    pub boot: BootId,
    /// When it started.
    pub born: Monotonic,
    /// Beside the shards.
    pub pulse: Pulse,
    /// When its next beat is planned.
    pub beat_at: Option<Monotonic>,
    /// Its shards.
    pub shards: Vec<Unit>,
}

/// One shard of a process and what drives it.
pub struct Unit {
    /// The thinking part.
    pub shard: Shard,
    /// The acting part.
    pub executor: Executor<SimDisk>,
    /// Answers of the last turn: they come before all else.
    pub answers: Vec<Event<Payload>>,
    /// What has arrived.
    pub inbox: VecDeque<Event<Payload>>,
    /// Whether a turn is planned.
    pub turn_due: bool,
    /// Its thread hangs until then, and since when.
    pub paused_until: Monotonic,
    /// See [`Unit::paused_until`].
    pub paused_since: Monotonic,
    /// The deadline that a wake-up is planned for.
    pub wake_at: Option<Monotonic>,
    /// The sync round in flight.
    pub round: Option<Round>,
    /// Sync rounds so far.
    pub rounds: u64,
    /// Groups open here.
    pub groups: BTreeMap<GroupId, ()>,
}

/// A sync round in flight.
pub struct Round {
    /// The whole, to be given back.
    pub whole: SyncRound<SimDisk>,
    /// What is to be done, each at its own time.
    pub parts: Vec<SyncPart<SimDisk>>,
    /// How many parts are still to come.
    pub left: usize,
    /// When it began.
    pub since: Monotonic,
}

impl Node {
    /// A machine with an empty disk.
    #[must_use]
    pub fn new(id: NodeId, disk: SimDisk, incarnation: Incarnation) -> Self {
        Self {
            id,
            disk,
            incarnation,
            starts: 0,
            process: None,
            wall_skew: 0,
            paused_until: Monotonic::ZERO,
            slow_until: Monotonic::ZERO,
            hangs_until: Monotonic::ZERO,
            is_full: false,
            sync_fails: false,
            dies_after: None,
        }
    }

    /// Where the broker's files are.
    #[must_use]
    pub fn data_dir() -> PathBuf {
        PathBuf::from("/data")
    }

    /// Starts a process, as production does: the directory, then shard by shard the state file and the shard itself.
    /// The effects of the start are returned for each shard.
    ///
    /// # Errors
    /// If the directory cannot be read: in words.
    pub fn start(
        &mut self,
        now: Monotonic,
        boot: BootId,
        plan: &Plan,
        seed: u64,
    ) -> Result<Vec<Vec<Effect<Payload>>>, String> {
        let dir = Self::data_dir();
        make_dirs(&self.disk, &dir).map_err(|error| format!("the data directory: {error}"))?;
        let life = Life { node: self.id, start: self.starts };
        self.starts += 1;
        let (mut pulse, mut shards) = (None, Vec::new());
        let mut effects = Vec::new();
        for number in 0..plan.shards {
            let executor =
                Executor::new(self.disk.clone(), &dir, number).map_err(|error| error.to_string())?;
            let config = ShardConfig {
                shard: number,
                shards: plan.shards,
                node: self.id,
                incarnation: self.incarnation,
                boot,
                peers: (1..=plan.nodes).map(NodeId).collect(),
                cluster_name: "sim".to_owned(),
                cluster_id_seed: u128::from(seed),
                seed: seed ^ u64::from(number),
                timings: plan.timings,
                in_flight_bytes_max: plan.in_flight_bytes_max,
                defaults: TopicDefaults::default(),
            };
            pulse.get_or_insert_with(|| new_pulse(&config));
            let found = executor.groups_found().map_err(|error| format!("the logs' directory: {error}"))?;
            let mut shard = Shard::new(config);
            let is_own = |group: &GroupId| group.0 % u64::from(plan.shards) == u64::from(number);
            shard.found(found.into_iter().filter(is_own));
            let mut started = Vec::new();
            shard.start(&mut started);
            effects.push(started);
            shards.push(Unit::new(shard, executor));
        }
        let pulse = pulse.expect("at least one shard");
        self.process = Some(Process { life, boot, born: now, pulse, beat_at: None, shards });
        Ok(effects)
    }

    /// Both clocks of the running process.
    #[must_use]
    pub fn clocks(&self, now: Monotonic) -> Now {
        let born = self.process.as_ref().map_or(Monotonic::ZERO, |process| process.born);
        let millis = i64::try_from(now.0 / 1000).expect("virtual time is short");
        let wall = Timestamp(WALL_START + millis + self.wall_skew);
        Now { monotonic: Monotonic(now.0.saturating_sub(born.0)), wall }
    }

    /// A moment of the process's clock, in virtual time.
    #[must_use]
    pub fn virtual_time(&self, local: Monotonic) -> Monotonic {
        let born = self.process.as_ref().map_or(Monotonic::ZERO, |process| process.born);
        born + Duration::from_micros(local.0)
    }

    /// The life that runs now.
    #[must_use]
    pub fn life(&self) -> Option<Life> {
        self.process.as_ref().map(|process| process.life)
    }

    /// The running unit of a shard, if that life still runs.
    pub fn unit(&mut self, life: Life, shard: usize) -> Option<&mut Unit> {
        self.process.as_mut().filter(|process| process.life == life)?.shards.get_mut(shard)
    }
}

impl Unit {
    /// Since when its thread, or its sync in flight, does not go on: as its pulse would see it.
    #[must_use]
    pub fn hangs_since(&self, now: Monotonic) -> Option<Monotonic> {
        let thread = (self.paused_until > now).then_some(self.paused_since);
        let sync = self.round.as_ref().map(|round| round.since);
        thread.into_iter().chain(sync).min()
    }

    fn new(shard: Shard, executor: Executor<SimDisk>) -> Self {
        Self {
            shard,
            executor,
            answers: Vec::new(),
            inbox: VecDeque::new(),
            turn_due: false,
            paused_until: Monotonic::ZERO,
            paused_since: Monotonic::ZERO,
            wake_at: None,
            round: None,
            rounds: 0,
            groups: BTreeMap::new(),
        }
    }
}

/// Formats the directory, durably.
fn make_dirs(disk: &SimDisk, dir: &Path) -> std::io::Result<()> {
    disk.create_dir_all(dir)?;
    disk.sync_dir(Path::new("/"))?;
    disk.sync_dir(dir)
}

/// 2024-01-01: what a right wall clock shows at the virtual start.
pub const WALL_START: i64 = 1_704_067_200_000;
