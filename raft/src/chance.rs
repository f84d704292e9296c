//! Chance that is data: a small generator, its seed given in [`crate::config::Config`].

use core::time::Duration;

/// xorshift64* (Vigna, 2014): good enough to keep timeouts of replicas apart.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// From any seed; zero, the generator's only fixed point, is mapped away.
    pub(crate) const fn new(seed: u64) -> Self {
        // Neighbouring seeds (node ids, group ids) must not give neighbouring first draws.
        let mixed = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = mixed ^ (mixed >> 29);
        Self(if mixed == 0 { 1 } else { mixed })
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A span in `[from, up_to)`.
    pub(crate) fn span(&mut self, from: Duration, up_to: Duration) -> Duration {
        let width = u64::try_from(up_to.saturating_sub(from).as_micros()).unwrap_or(u64::MAX).max(1);
        from + Duration::from_micros(self.next() % width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_stay_in_range_and_differ() {
        let (from, up_to) = (Duration::from_millis(300), Duration::from_millis(900));
        for seed in 0..100 {
            let mut chance = Chance::new(seed);
            let first = chance.span(from, up_to);
            assert!(from <= first && first < up_to, "seed {seed}: {first:?}");
            assert_ne!(first, chance.span(from, up_to), "seed {seed}");
            assert_ne!(first, Chance::new(seed + 1).span(from, up_to), "seed {seed}");
        }
    }
}
