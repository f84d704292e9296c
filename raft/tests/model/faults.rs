//! Which faults a seed has, each on or off by a coin and then of random strength.

/// A generator for tests: splitmix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True `permille` times in a thousand.
    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }
}

/// The faults of one run; rates in permille, times in µs.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Everything that has a duration, timeouts included, is divided by this: 10 makes for many short terms.
    pub pace: u64,
    pub voters: u32,
    pub learners: u32,
    pub pre_vote: bool,
    pub eager: bool,
    pub drop: u64,
    pub duplicate: u64,
    /// Whether messages of one link may overtake each other.
    pub reorder: bool,
    /// How many messages take up to `late_us`.
    pub late: u64,
    pub late_us: u64,
    pub sync_us_max: u64,
    pub save_us_max: u64,
    /// How often something of the following happens.
    pub crash_every_us: Option<u64>,
    /// How often a new leader crashes within a moment of its election.
    pub crash_new_leader: u64,
    /// Whether the others see at once that a process is gone (their connection is refused).
    pub crash_is_seen: bool,
    pub partition_every_us: Option<u64>,
    pub full_every_us: Option<u64>,
    pub trim_every_us: Option<u64>,
    pub transfer_every_us: Option<u64>,
    pub busy: u64,
    pub small_windows: bool,
    pub small_batches: bool,
    pub memory_acks: bool,
    pub propose_every_us: u64,
}

impl Faults {
    pub fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x00fa_0175);
        let mut every = |coin: u64, from: u64, up_to: u64| {
            let on = random.chance(coin);
            let rate = from + random.below(up_to - from);
            on.then_some(rate)
        };
        let pace = if every(500, 1, 2).is_some() { 10 } else { 1 };
        Self {
            pace,
            crash_is_seen: every(500, 1, 2).is_some(),
            crash_new_leader: every(300, 100, 700).unwrap_or(0),
            voters: match every(1000, 0, 10) {
                Some(0) => 1,
                Some(1) => 2,
                Some(2) => 4,
                Some(3..6) => 5,
                _ => 3,
            },
            learners: u32::from(every(250, 1, 2).is_some()),
            pre_vote: every(150, 1, 2).is_none(),
            eager: every(300, 1, 2).is_some(),
            drop: every(500, 1, 250).unwrap_or(0),
            reorder: every(500, 1, 2).is_some(),
            duplicate: every(500, 1, 250).unwrap_or(0),
            late: every(500, 1, 200).unwrap_or(0),
            late_us: every(1000, 20_000, 3_000_000).unwrap_or(0) / pace,
            sync_us_max: (every(500, 2_000, 1_000_000).unwrap_or(2_000) / pace).max(1),
            save_us_max: (every(300, 2_000, 600_000).unwrap_or(2_000) / pace).max(1),
            crash_every_us: every(600, 200_000, 4_000_000).map(|us| us / pace),
            partition_every_us: every(600, 200_000, 3_000_000).map(|us| us / pace),
            full_every_us: every(250, 500_000, 4_000_000).map(|us| us / pace),
            trim_every_us: every(300, 100_000, 2_000_000).map(|us| us / pace),
            transfer_every_us: every(300, 100_000, 2_000_000).map(|us| us / pace),
            busy: every(300, 1, 300).unwrap_or(0),
            small_batches: every(400, 1, 2).is_some(),
            small_windows: every(400, 1, 2).is_some(),
            memory_acks: every(300, 1, 2).is_some(),
            propose_every_us: every(1000, 2_000, 60_000).unwrap_or(2_000) / pace,
        }
    }

    /// Five voters whose leaders crash soon after their election, one entry a message: entries of many old terms are
    /// pending, and brought to a majority by leaders that do not live to commit one of their own (figure 8).
    pub fn short_reigns(seed: u64) -> Self {
        Self {
            pace: 10,
            voters: 5,
            learners: 0,
            pre_vote: true,
            eager: false,
            drop: seed % 4 * 60,
            duplicate: 0,
            late: 0,
            late_us: 0,
            reorder: false,
            sync_us_max: 300,
            save_us_max: 300,
            crash_every_us: None,
            crash_new_leader: 1000,
            crash_is_seen: true,
            partition_every_us: seed.is_multiple_of(2).then_some(40_000),
            full_every_us: None,
            trim_every_us: None,
            transfer_every_us: None,
            busy: 0,
            small_windows: true,
            small_batches: true,
            memory_acks: false,
            propose_every_us: 3_000,
        }
    }
}
