//! Everything that one seed decides before a run begins: the cluster, its timings, the workload, and which faults
//! there are (each on or off by a coin, then its strength).

use std::time::Duration;

use raftline_proto::ids::TopicId;
use raftline_shard::config::Timings;

use super::chance::{Chance, Odds};
use super::network::Rules;

/// One run's setup.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed that drew it.
    pub seed: u64,
    /// Which kind of run.
    pub family: Family,
    /// How many nodes.
    pub nodes: u32,
    /// Shards per node.
    pub shards: u32,
    /// What the shards decide by.
    pub timings: Timings,
    /// Entries on their way to one follower of a group, in bytes: a tiny window sends them one by one.
    pub in_flight_bytes_max: u64,
    /// A segment's size.
    pub segment_bytes: u64,
    /// The topics, by their partition counts.
    pub topics: Vec<u32>,
    /// The network while faults are on.
    pub network: Rules,
    /// The disks.
    pub disks: Disks,
    /// Which faults come again and again, and how far apart on average.
    pub faults: Vec<(Fault, Duration)>,
    /// Who uses the cluster.
    pub load: Load,
    /// What becomes of old records.
    pub upkeep: Upkeep,
    /// A new leader is cut off or dies soon after its election.
    pub short_reigns: Odds,
    /// How long the cluster is left alone at first.
    pub grace: Duration,
    /// How long faults go on.
    pub safety: Duration,
}

/// Kinds of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Timings and sizes near the real ones.
    Plain,
    /// Tiny segments, fast elections, slow syncs, many faults: rare orders of events become common.
    Adversarial,
}

/// How the disks behave.
#[derive(Clone, Copy, Debug)]
pub struct Disks {
    /// The shortest sync.
    pub sync_min: Duration,
    /// The longest usual one.
    pub sync_max: Duration,
    /// A sync that takes up to [`Disks::stall_max`].
    pub stall: Odds,
    /// The longest stall.
    pub stall_max: Duration,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process dies; what it had written stays in the page cache.
    Kill,
    /// A node loses power: unsynced writes are lost, kept or torn.
    PowerLoss,
    /// All nodes lose power at once.
    PowerLossOfAll,
    /// A process dies in the middle of a turn: some effects were performed, others were not.
    CrashInTurn,
    /// The nodes fall into two parts that do not hear each other.
    Partition,
    /// Messages between some nodes go one way only.
    OneWay,
    /// A connection breaks and is made anew.
    Reset,
    /// A process is stopped for a while.
    Pause,
    /// One shard's thread hangs for a while, the others go on.
    PauseShard,
    /// A disk's syncs hang for a while.
    HangDisk,
    /// A wall clock jumps.
    ClockJump,
    /// A disk becomes slow for a while.
    SlowDisk,
    /// A disk fills up, and has room again later.
    DiskFull,
    /// The next sync on a disk fails; the process stops.
    SyncFails,
    /// An operator hands leadership over.
    Transfer,
    /// Bytes of one log go bad on a running node: a bit flips, a sector is lost, a file is shortened.
    Rot,
}

impl Fault {
    /// Whether a process dies of it.
    const fn is_deadly(self) -> bool {
        matches!(
            self,
            Self::Kill | Self::PowerLoss | Self::PowerLossOfAll | Self::CrashInTurn | Self::SyncFails
        )
    }
}

/// Who uses the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Idempotent producers for each partition.
    pub idempotent: u32,
    /// Other producers for each partition.
    pub plain: u32,
    /// Consumers for each partition.
    pub consumers: u32,
    /// Batches that a producer has in flight.
    pub window: u64,
    /// Most records in a batch.
    pub records_max: u32,
    /// Longest value of a record.
    pub value_bytes_max: usize,
    /// Mean pause between two batches of a producer.
    pub pause: Duration,
    /// Longest delay between a client and a node, either way.
    pub delay_max: Duration,
    /// A request that arrives only long after its client has given it up.
    pub straggler: Odds,
    /// How long a client waits for an answer.
    pub patience: Duration,
}

/// What becomes of old records.
#[derive(Clone, Debug, Default)]
pub struct Upkeep {
    /// For each topic, its configs beside the segments' size.
    pub configs: Vec<Vec<(&'static str, String)>>,
    /// Keys of a compacted topic's records.
    pub keys: u64,
    /// Mean pause between two deletions of the oldest records of a topic that is not compacted, if there are any.
    pub erasures: Option<Duration>,
    /// An operator who makes topics, changes and grows them, if there is one.
    pub meddling: Option<Meddling>,
}

/// What becomes of topics that nobody uses.
#[derive(Clone, Copy, Debug)]
pub struct Meddling {
    /// Mean pause between two changes.
    pub pause: Duration,
    /// Whether each is deleted in the end.
    pub deletes: bool,
}

impl Upkeep {
    /// Whether anything ever goes.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.erasures.is_some() || self.configs.iter().any(|configs| !configs.is_empty())
    }

    /// How much of each partition's log of a topic stays, in bytes, and for how long, in milliseconds; `None` if all does,
    /// or for ever.
    #[must_use]
    pub fn retention(&self, topic: TopicId) -> (Option<u64>, Option<i64>) {
        let nth = usize::try_from(topic.0).ok().and_then(|id| id.checked_sub(1));
        let configs = nth.and_then(|nth| self.configs.get(nth)).map_or(&[][..], |configs| &configs[..]);
        let value = |name| configs.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        let bytes = value("retention.bytes").map(|bytes| bytes.parse().expect("a number of bytes"));
        (bytes, value("retention.ms").map(|ms| ms.parse().expect("a number of milliseconds")))
    }

    /// The longest time that records of any topic stay for, if they go by age.
    #[must_use]
    pub fn retention_ms_max(&self) -> Option<u64> {
        let ages = self.configs.iter().flatten().filter(|(name, _)| *name == "retention.ms");
        ages.map(|(_, ms)| ms.parse().expect("a number of milliseconds")).max()
    }
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut chance = Chance::from_seed(seed);
        let family = if chance.hit(Odds::percent(60)) { Family::Adversarial } else { Family::Plain };
        let nodes = *chance.pick(&[3, 3, 3, 3, 3, 3, 3, 5, 5, 1]).expect("not empty");
        let mut plan = match family {
            Family::Plain => Self::plain(seed, nodes),
            Family::Adversarial => Self::adversarial(seed, nodes),
        };
        plan.shards =
            if chance.hit(Odds::percent(25)) { u32::try_from(chance.between(2, 4)).expect("few") } else { 1 };
        plan.topics = (0..chance.between(1, 2)).map(|_| if chance.coin() { 1 } else { 2 }).collect();
        plan.load.window = chance.between(1, 5);
        plan.load.plain = u32::from(chance.coin());
        plan.draw_upkeep(&mut Chance::from_seed(seed ^ 0xc0c0));
        plan.draw_retention(&mut Chance::from_seed(seed ^ 0x4e7a));
        plan.draw_age(&mut Chance::from_seed(seed ^ 0xa9e5));
        plan.draw_network(&mut chance);
        plan.draw_faults(&mut chance);
        plan.draw_rot(&mut Chance::from_seed(seed ^ 0x6017));
        if plan.family == Family::Adversarial && nodes > 1 && chance.hit(Odds::percent(25)) {
            plan.shorten_reigns(&mut chance);
        }
        plan.draw_meddling(&mut Chance::from_seed(seed ^ 0x3edd));
        plan
    }

    /// Raft's figure 8 needs one short reign after the other, each leaving entries behind on a minority. So leaders
    /// fall right after their elections, entries travel one by one, and little else goes wrong.
    fn shorten_reigns(&mut self, chance: &mut Chance) {
        self.short_reigns = Odds::percent(u32::try_from(chance.between(30, 80)).expect("small"));
        self.in_flight_bytes_max = chance.between(1, 400);
        self.faults.truncate(2);
    }

    fn plain(seed: u64, nodes: u32) -> Self {
        let millis = Duration::from_millis;
        Self {
            seed,
            family: Family::Plain,
            nodes,
            shards: 1,
            timings: Timings::default(),
            in_flight_bytes_max: raftline_shard::limits::IN_FLIGHT_BYTES_MAX,
            segment_bytes: 64 << 10,
            topics: vec![1],
            network: Rules {
                delay_min: Duration::from_micros(50),
                delay_max: millis(2),
                spike: Odds::NEVER,
                spike_max: millis(300),
                loss: Odds::NEVER,
                duplicate: Odds::NEVER,
                reorder: Odds::NEVER,
                stale: Odds::NEVER,
                stream_bytes_max: 256 << 10,
            },
            disks: Disks {
                sync_min: Duration::from_micros(100),
                sync_max: millis(4),
                stall: Odds::per_mille(2),
                stall_max: millis(400),
            },
            faults: Vec::new(),
            load: Load {
                idempotent: 2,
                plain: 0,
                consumers: 1,
                window: 1,
                records_max: 8,
                value_bytes_max: 200,
                pause: millis(90),
                delay_max: millis(2),
                straggler: Odds::NEVER,
                patience: millis(1500),
            },
            upkeep: Upkeep::default(),
            short_reigns: Odds::NEVER,
            grace: millis(2000),
            safety: Duration::from_secs(12),
        }
    }

    fn adversarial(seed: u64, nodes: u32) -> Self {
        let millis = Duration::from_millis;
        let plain = Self::plain(seed, nodes);
        Self {
            family: Family::Adversarial,
            timings: Timings {
                alive_interval: millis(20),
                alive_lapse: millis(120),
                stuck: millis(250),
                clock_off_max: millis(60_000),
                clock_settle: millis(500),
                disconnect_grace: millis(30),
                election_min: millis(40),
                election_max: millis(140),
                resend: millis(15),
                note_interval: millis(150),
                retention_interval: Duration::from_secs(2),
                drain_limit: millis(500),
            },
            segment_bytes: 4096,
            network: Rules { delay_max: millis(8), spike_max: millis(250), ..plain.network },
            disks: Disks {
                sync_max: millis(25),
                stall: Odds::percent(1),
                stall_max: millis(300),
                ..plain.disks
            },
            load: Load {
                pause: millis(25),
                delay_max: millis(6),
                patience: millis(400),
                value_bytes_max: 120,
                ..plain.load
            },
            grace: millis(400),
            safety: Duration::from_secs(5),
            ..plain
        }
    }

    /// Half of the topics are compacted, at a pace that fits the length of a run. Some of the others lose their oldest
    /// records by request.
    fn draw_upkeep(&mut self, chance: &mut Chance) {
        self.upkeep.keys = chance.between(2, 12);
        for _ in 0..self.topics.len() {
            let mut configs = Vec::new();
            if chance.coin() {
                let mut draw = |name, values: &[&str]| {
                    configs.push((name, (*chance.pick(values).expect("not empty")).to_owned()));
                };
                draw("cleanup.policy", &["compact", "compact", "compact,delete"]);
                draw("min.cleanable.dirty.ratio", &["0", "0.1", "0.5"]);
                draw("delete.retention.ms", &["0", "0", "300"]);
                draw("min.compaction.lag.ms", &["0", "0", "0", "150"]);
                draw("max.compaction.lag.ms", &["9223372036854775807", "1000"]);
                self.timings.retention_interval =
                    chance.span(Duration::from_millis(100), Duration::from_millis(500));
            }
            self.upkeep.configs.push(configs);
        }
        if chance.hit(Odds::percent(30)) {
            self.upkeep.erasures = Some(chance.span(Duration::from_millis(200), Duration::from_millis(1500)));
            self.timings.retention_interval =
                chance.span(Duration::from_millis(100), Duration::from_millis(500));
        }
    }

    /// Some topics that are not compacted keep a few segments only.
    fn draw_retention(&mut self, chance: &mut Chance) {
        let segment_bytes = self.segment_bytes;
        for configs in self.upkeep.configs.iter_mut().filter(|configs| configs.is_empty()) {
            if chance.hit(Odds::percent(30)) {
                let bytes = segment_bytes * chance.between(1, 4);
                configs.push(("retention.bytes", bytes.to_string()));
                self.timings.retention_interval =
                    chance.span(Duration::from_millis(100), Duration::from_millis(500));
            }
        }
    }

    /// Some topics that are not compacted keep their records for a few seconds only. Where that is so, clocks that are off
    /// by more than a fraction of that are doubted.
    fn draw_age(&mut self, chance: &mut Chance) {
        let compacts = |configs: &[(&str, String)]| configs.iter().any(|(name, _)| *name == "cleanup.policy");
        for configs in self.upkeep.configs.iter_mut().filter(|configs| !compacts(configs)) {
            if chance.hit(Odds::percent(25)) {
                configs.push(("retention.ms", chance.between(1000, 3000).to_string()));
            }
        }
        if self.upkeep.retention_ms_max().is_some() {
            self.timings.clock_off_max = Duration::from_millis(300);
            self.timings.clock_settle = Duration::from_millis(500);
            self.timings.retention_interval = self
                .timings
                .retention_interval
                .min(chance.span(Duration::from_millis(100), Duration::from_millis(500)));
        }
    }

    /// In some runs topics are made, changed and grown beside those that are used. In half of these they are deleted, too:
    /// then no process dies, since what a start does about a deletion that it does not know of yet is not settled.
    fn draw_meddling(&mut self, chance: &mut Chance) {
        if !chance.hit(Odds::percent(25)) {
            return;
        }
        let (least, most) = match self.family {
            Family::Plain => (100, 800),
            Family::Adversarial => (20, 200),
        };
        let pause = chance.span(Duration::from_millis(least), Duration::from_millis(most));
        let deletes = chance.coin();
        self.upkeep.meddling = Some(Meddling { pause, deletes });
        if deletes {
            self.short_reigns = Odds::NEVER;
            self.faults.retain(|(fault, _)| !fault.is_deadly());
            if self.faults.len() < 2 {
                self.faults.extend([Fault::Partition, Fault::Pause].map(|fault| (fault, pause * 5)));
            }
        }
    }

    fn draw_network(&mut self, chance: &mut Chance) {
        let network = &mut self.network;
        for (odds, most) in [
            (&mut network.spike, 30),
            (&mut network.loss, 60),
            (&mut network.duplicate, 60),
            (&mut network.reorder, 100),
            (&mut network.stale, 300),
        ] {
            if chance.coin() {
                *odds = Odds::per_mille(u32::try_from(chance.between(1, most)).expect("small"));
            }
        }
        if chance.coin() {
            self.load.straggler = Odds::per_mille(u32::try_from(chance.between(1, 40)).expect("small"));
        }
        if chance.hit(Odds::percent(15)) {
            network.stream_bytes_max = 2 << 10;
        }
    }

    /// Where there are enough replicas, bytes go bad in some runs.
    fn draw_rot(&mut self, chance: &mut Chance) {
        if self.nodes > 1 && chance.hit(Odds::percent(25)) {
            let mean = chance.span(Duration::from_millis(300), Duration::from_millis(1500));
            self.faults.push((Fault::Rot, mean));
        }
    }

    fn draw_faults(&mut self, chance: &mut Chance) {
        let (scale, odds) = match self.family {
            Family::Plain => (Duration::from_millis(2500), Odds::percent(35)),
            Family::Adversarial => (Duration::from_millis(700), Odds::percent(50)),
        };
        let mut kinds: Vec<Fault> = FAULTS.into_iter().filter(|_| chance.hit(odds)).collect();
        for needed in [Fault::Kill, Fault::Partition] {
            // Too few kinds prove little.
            if kinds.len() < 2 && !kinds.contains(&needed) {
                kinds.push(needed);
            }
        }
        // Many kinds come the more rarely: what is down all the time acknowledges nothing.
        let crowd = u32::try_from(kinds.len()).expect("few kinds").max(3) / 3;
        for fault in kinds {
            self.faults.push((fault, chance.span(scale / 2, scale * 3) * crowd));
        }
    }
}

/// What may go wrong again and again, but for what is drawn on its own.
const FAULTS: [Fault; 15] = [
    Fault::Kill,
    Fault::PowerLoss,
    Fault::PowerLossOfAll,
    Fault::CrashInTurn,
    Fault::Partition,
    Fault::OneWay,
    Fault::Reset,
    Fault::Pause,
    Fault::ClockJump,
    Fault::SlowDisk,
    Fault::DiskFull,
    Fault::SyncFails,
    Fault::Transfer,
    Fault::PauseShard,
    Fault::HangDisk,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_reach_every_fault_and_both_families() {
        let plans: Vec<Plan> = (0..200).map(Plan::draw).collect();
        for fault in FAULTS.into_iter().chain([Fault::Rot]) {
            assert!(
                plans.iter().any(|plan| plan.faults.iter().any(|(drawn, _)| *drawn == fault)),
                "{fault:?}"
            );
        }
        for family in [Family::Plain, Family::Adversarial] {
            assert!(plans.iter().filter(|plan| plan.family == family).count() > 40, "{family:?}");
        }
    }
}
