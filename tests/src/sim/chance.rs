//! All chance of a run: one seeded generator, forked into independent streams so that drawing more in one part does
//! not shift what another part draws.

use std::time::Duration;

use rand::{Rng, RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A seeded stream of chance.
#[derive(Clone, Debug)]
pub struct Chance(Xoshiro256PlusPlus);

/// A probability in parts per million: whole numbers, so that a run is the same on every machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Odds(pub u32);

impl Odds {
    /// Never.
    pub const NEVER: Self = Self(0);

    /// So many in a hundred.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        Self(percent * 10_000)
    }

    /// So many in a thousand.
    #[must_use]
    pub const fn per_mille(per_mille: u32) -> Self {
        Self(per_mille * 1_000)
    }
}

impl Chance {
    /// The stream that belongs to a seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// A new stream of its own; takes one number of this one.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::from_seed(self.0.next_u64())
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Any of `first..=last`.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        self.0.random_range(first..=last)
    }

    /// Whether it happens this time.
    pub fn hit(&mut self, odds: Odds) -> bool {
        odds.0 > 0 && self.between(1, 1_000_000) <= u64::from(odds.0)
    }

    /// Heads.
    pub fn coin(&mut self) -> bool {
        self.0.next_u64() & 1 == 1
    }

    /// A span of `first..=last`, in microseconds.
    pub fn span(&mut self, first: Duration, last: Duration) -> Duration {
        let micros = |span: Duration| u64::try_from(span.as_micros()).expect("virtual spans are short");
        Duration::from_micros(self.between(micros(first), micros(last).max(micros(first))))
    }

    /// A span around `mean`: from a tenth of it to nearly twice.
    pub fn around(&mut self, mean: Duration) -> Duration {
        self.span(mean / 10, mean * 19 / 10)
    }

    /// One of these; `None` if there are none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let last = of.len().checked_sub(1)?;
        of.get(self.index_through(last))
    }

    /// An index of `0..=last`.
    pub fn index_through(&mut self, last: usize) -> usize {
        self.0.random_range(0..=last)
    }

    /// Puts these into any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.index_through(last);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same() {
        let draw = |seed| {
            let mut chance = Chance::from_seed(seed);
            let mut fork = chance.fork();
            (chance.any(), fork.any(), chance.between(3, 9), fork.coin())
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn odds_are_about_right_and_never_is_never() {
        let mut chance = Chance::from_seed(1);
        let hits = (0..10_000).filter(|_| chance.hit(Odds::percent(10))).count();
        assert!((800..1200).contains(&hits), "{hits} of 10000 at 10 %");
        assert!((0..1000).all(|_| !chance.hit(Odds::NEVER)));
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..20).collect();
        Chance::from_seed(5).shuffle(&mut items);
        assert_ne!(items, (0..20).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..20).collect::<Vec<_>>());
    }
}
