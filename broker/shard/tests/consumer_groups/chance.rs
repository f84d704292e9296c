//! Chance from a seed.

/// xorshift64*.
#[derive(Clone, Copy, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound.max(1)
    }

    /// An index into something of `len` items.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("an index")
    }

    /// True in `percent` of a hundred.
    pub fn one_in(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The seeds of a campaign: `RAFTLINE_SEED` for one, else the first `count`.
pub fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("RAFTLINE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..count,
    }
}

/// Says which seed failed.
pub struct Failing(pub u64);

impl Drop for Failing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing seed: run again with RAFTLINE_SEED={}", self.0);
        }
    }
}
