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
    pub voters: u32,
    pub learners: u32,
    pub pre_vote: bool,
    pub eager: bool,
    pub drop: u64,
    pub duplicate: u64,
    /// How many messages take up to `late_us`.
    pub late: u64,
    pub late_us: u64,
    pub sync_us_max: u64,
    pub save_us_max: u64,
    /// How often something of the following happens.
    pub crash_every_us: Option<u64>,
    pub partition_every_us: Option<u64>,
    pub full_every_us: Option<u64>,
    pub trim_every_us: Option<u64>,
    pub transfer_every_us: Option<u64>,
    pub busy: u64,
    pub small_windows: bool,
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
        Self {
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
            duplicate: every(500, 1, 250).unwrap_or(0),
            late: every(500, 1, 200).unwrap_or(0),
            late_us: every(1000, 20_000, 3_000_000).unwrap_or(0),
            sync_us_max: every(500, 2_000, 1_000_000).unwrap_or(2_000),
            save_us_max: every(300, 2_000, 600_000).unwrap_or(2_000),
            crash_every_us: every(600, 200_000, 4_000_000),
            partition_every_us: every(600, 200_000, 3_000_000),
            full_every_us: every(250, 500_000, 4_000_000),
            trim_every_us: every(300, 100_000, 2_000_000),
            transfer_every_us: every(300, 100_000, 2_000_000),
            busy: every(300, 1, 300).unwrap_or(0),
            small_windows: every(400, 1, 2).is_some(),
            memory_acks: every(300, 1, 2).is_some(),
            propose_every_us: every(1000, 2_000, 60_000).unwrap_or(2_000),
        }
    }
}
