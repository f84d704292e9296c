//! A bad wire, and chance.

/// What a bad wire does, by chance.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub chance: Chance,
    /// Of a hundred messages, how many are lost.
    pub lost: u64,
    /// Of a hundred, how many come twice.
    pub doubled: u64,
    /// The longest way, in microseconds.
    pub delay_us_max: u64,
}

impl Weather {
    /// How long each copy of a message takes.
    pub fn delays(&mut self) -> Vec<u64> {
        let copies = match self.chance.below(100) {
            roll if roll < self.lost => 0,
            roll if roll < self.lost + self.doubled => 2,
            _ => 1,
        };
        (0..copies).map(|_| 100 + self.chance.below(self.delay_us_max)).collect()
    }
}

/// Chance from a seed (xorshift64*).
#[derive(Clone, Copy, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound.max(1)
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let at = self.below(of.len() as u64);
        of[usize::try_from(at).expect("an index")]
    }
}
