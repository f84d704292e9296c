//! What happens next: a heap ordered by virtual time; what is due at the same moment comes in an order drawn from
//! the seed.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use raftline_proto::time::Monotonic;

use super::chance::Chance;

/// Everything that is going to happen, soonest first.
#[derive(Debug)]
pub struct EventHeap<T> {
    heap: BinaryHeap<Due<T>>,
    scheduled: u64,
    now: Monotonic,
    ties: Chance,
}

#[derive(Debug)]
struct Due<T> {
    at: Monotonic,
    tie: u64,
    sequence: u64,
    what: T,
}

impl<T> EventHeap<T> {
    /// Empty, at time zero.
    #[must_use]
    pub fn new(ties: Chance) -> Self {
        Self { heap: BinaryHeap::new(), scheduled: 0, now: Monotonic::ZERO, ties }
    }

    /// The virtual time: that of the event taken last.
    #[must_use]
    pub fn now(&self) -> Monotonic {
        self.now
    }

    /// Plans `what` for `at`, or for now if that is past.
    pub fn push(&mut self, at: Monotonic, what: T) {
        self.scheduled += 1;
        let due = Due { at: at.max(self.now), tie: self.ties.any(), sequence: self.scheduled, what };
        self.heap.push(due);
    }

    /// Takes the next event and moves the clock to it, unless it is later than `through`.
    pub fn pop(&mut self, through: Monotonic) -> Option<T> {
        if self.heap.peek()?.at > through {
            return None;
        }
        let due = self.heap.pop()?;
        self.now = due.at;
        Some(due.what)
    }

    /// How many events are planned.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is planned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<T> Due<T> {
    fn key(&self) -> (Monotonic, u64, u64) {
        (self.at, self.tie, self.sequence)
    }
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    /// Reversed: the standard heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(seed: u64, planned: &[(u64, u32)]) -> Vec<u32> {
        let mut heap = EventHeap::new(Chance::from_seed(seed));
        for &(at, what) in planned {
            heap.push(Monotonic(at), what);
        }
        std::iter::from_fn(|| heap.pop(Monotonic(u64::MAX))).collect()
    }

    #[test]
    fn time_orders_and_the_seed_breaks_ties() {
        assert_eq!(drain(1, &[(30, 3), (10, 1), (20, 2)]), [1, 2, 3]);
        let tied: Vec<(u64, u32)> = (0..16).map(|what| (5, what)).collect();
        assert_eq!(drain(1, &tied), drain(1, &tied));
        assert_ne!(drain(1, &tied), drain(2, &tied), "another seed, another order");
    }

    #[test]
    fn the_clock_never_goes_back_and_stops_at_the_bound() {
        let mut heap = EventHeap::new(Chance::from_seed(1));
        heap.push(Monotonic(10), 'a');
        assert_eq!(heap.pop(Monotonic(9)), None);
        assert_eq!(heap.pop(Monotonic(10)), Some('a'));
        heap.push(Monotonic(3), 'b');
        assert_eq!(heap.pop(Monotonic(10)), Some('b'));
        assert_eq!(heap.now(), Monotonic(10));
        assert!(heap.is_empty());
    }
}
