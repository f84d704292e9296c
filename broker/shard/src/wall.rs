//! Whether this node's wall clock can be trusted. Records go by their age: a clock that is days ahead would let all of them go.
//!
//! Brokers tell each other their wall clocks. With three or more, the one that is off their median by more than a bound is
//! wrong. A clock that jumps against the time since the machine was started is doubted at once, with however few brokers.
//! One that was doubted is trusted again when it has been near the median of at least three for a while.

use crate::config::Timings;
use alloc::vec::Vec;
use raftline_proto::time::{Monotonic, Now};

/// This node's wall clock, as it is judged.
#[derive(Debug, Default)]
pub(crate) struct WallClock {
    /// Its distance from the monotonic clock when last looked at, in milliseconds.
    distance: Option<i64>,
    doubt: Option<Doubt>,
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// Since when it has been near the median.
    right_since: Option<Monotonic>,
}

impl WallClock {
    /// Looks at it, beside those of the peers that answer: how far each is ahead of this one, in milliseconds. To be called
    /// several times a minute.
    pub fn look(&mut self, now: Now, peers: &[i64], timings: &Timings) {
        let bound = i64::try_from(timings.clock_off_max.as_millis()).unwrap_or(i64::MAX);
        let distance = distance(now);
        let jumped = self.distance.is_some_and(|before| (distance - before).abs() > bound);
        self.distance = Some(distance);
        if jumped {
            self.doubt = Some(Doubt { right_since: None });
        }
        let Some(off) = off_the_median(peers) else { return };
        match &mut self.doubt {
            _ if off > bound => self.doubt = Some(Doubt { right_since: None }),
            None => {}
            Some(Doubt { right_since }) => {
                let since = *right_since.get_or_insert(now.monotonic);
                if now.monotonic.since(since) >= timings.clock_settle {
                    self.doubt = None;
                }
            }
        }
    }

    /// Whoever looks after this node says that its clock is right now. With two others that say otherwise it is doubted
    /// again.
    pub fn trust(&mut self, now: Now) {
        (self.distance, self.doubt) = (Some(distance(now)), None);
    }

    /// Whether nothing may be decided by it.
    pub fn is_doubted(&self) -> bool {
        self.doubt.is_some()
    }
}

/// How far the wall clock is from the monotonic one, in milliseconds.
pub(crate) fn distance(now: Now) -> i64 {
    let since_start = i64::try_from(now.monotonic.0 / 1000).unwrap_or(i64::MAX);
    now.wall.get().saturating_sub(since_start)
}

/// How far this clock is from the median of all, itself among them; `None` with fewer than three.
fn off_the_median(peers: &[i64]) -> Option<i64> {
    if peers.len() < 2 {
        return None;
    }
    let mut all: Vec<i64> = peers.iter().copied().chain([0]).collect();
    all.sort_unstable();
    // Of an even number the one nearer to this clock: half of them cannot outvote the other half.
    let upper = all[all.len() / 2].saturating_abs();
    let lower = all[(all.len() - 1) / 2].saturating_abs();
    Some(upper.min(lower))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use raftline_proto::time::Timestamp;

    const DAY: i64 = 24 * 3600 * 1000;

    fn at(seconds: u64, skew_ms: i64) -> Now {
        let monotonic = Monotonic::ZERO + Duration::from_secs(seconds);
        let wall = Timestamp(1_700_000_000_000 + i64::try_from(seconds * 1000).unwrap() + skew_ms);
        Now { monotonic, wall }
    }

    fn doubted(clock: &mut WallClock, now: Now, peers: &[i64]) -> bool {
        clock.look(now, peers, &Timings::default());
        clock.is_doubted()
    }

    #[test]
    fn one_of_three_that_is_off_is_doubted_until_it_is_right_for_a_minute() {
        let mut clock = WallClock::default();
        assert!(!doubted(&mut clock, at(0, 0), &[100, -59_000]));
        // Eight days ahead of both.
        assert!(doubted(&mut clock, at(1, 8 * DAY), &[-8 * DAY, -8 * DAY]));
        assert!(doubted(&mut clock, at(2, 0), &[0, 0]), "set right just now");
        assert!(doubted(&mut clock, at(61, 0), &[0, 0]));
        assert!(!doubted(&mut clock, at(62, 0), &[0, 0]));
    }

    #[test]
    fn one_that_is_right_is_not_doubted_for_another_ones_sake() {
        let mut clock = WallClock::default();
        assert!(!doubted(&mut clock, at(0, 0), &[8 * DAY, 10]));
        assert!(!doubted(&mut clock, at(1, 0), &[8 * DAY, -8 * DAY]));
        assert!(!doubted(&mut clock, at(2, 0), &[8 * DAY, 8 * DAY, 5]), "two against two");
    }

    #[test]
    fn one_that_is_off_from_the_start_is_doubted_once_two_others_are_heard() {
        let mut clock = WallClock::default();
        assert!(!doubted(&mut clock, at(0, 2 * DAY), &[]));
        assert!(!doubted(&mut clock, at(1, 2 * DAY), &[-2 * DAY]), "which of two is wrong?");
        assert!(doubted(&mut clock, at(2, 2 * DAY), &[-2 * DAY, -2 * DAY]));
    }

    #[test]
    fn a_clock_that_was_set_right_is_trusted_at_a_word_unless_two_others_differ() {
        let mut clock = WallClock::default();
        assert!(!doubted(&mut clock, at(0, 0), &[]));
        assert!(doubted(&mut clock, at(1, 8 * DAY), &[]));
        assert!(doubted(&mut clock, at(500, 0), &[0]), "set right, and nobody can tell");
        clock.trust(at(500, 0));
        assert!(!clock.is_doubted() && !doubted(&mut clock, at(501, 0), &[0]));
        assert!(doubted(&mut clock, at(502, 8 * DAY), &[-8 * DAY, -8 * DAY]));
        clock.trust(at(503, 8 * DAY));
        assert!(doubted(&mut clock, at(504, 8 * DAY), &[-8 * DAY, -8 * DAY]), "it is wrong");
    }

    #[test]
    fn a_jump_is_doubted_with_however_few_and_drift_is_not() {
        for jump in [8 * DAY, -8 * DAY] {
            let mut clock = WallClock::default();
            assert!(!doubted(&mut clock, at(0, 0), &[]));
            assert!(doubted(&mut clock, at(1, jump), &[]));
            assert!(doubted(&mut clock, at(100_000, jump), &[-jump]), "nobody can say that it is right");
            assert!(doubted(&mut clock, at(100_001, jump), &[0, 5]));
            assert!(!doubted(&mut clock, at(100_061, jump), &[0, 5]), "two can");
        }
        let mut clock = WallClock::default();
        for second in 0..10_000 {
            assert!(!doubted(&mut clock, at(second, i64::try_from(second).unwrap() * 50), &[]));
        }
    }
}
