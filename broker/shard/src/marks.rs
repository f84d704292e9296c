//! A few places of the log with the time when each was reached: what is older than so and so long is found by them.

use alloc::collections::VecDeque;
use core::time::Duration;
use raftline_proto::ids::{Index, Offset};
use raftline_proto::time::Monotonic;

/// The log through an entry, at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub index: Index,
    /// The offset after the last record at or below `index`.
    pub end_offset: Offset,
    pub at: Monotonic,
}

/// Marks, in order.
///
/// Invariant: ascending in index and time, at most [`MARKS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Marks {
    marks: VecDeque<Mark>,
}

impl Marks {
    /// Notes a place. One that comes less than an eighth of `age` after the last but one takes the last one's place: so
    /// there are few, and none older than `age` is ever moved.
    pub fn note(&mut self, mark: Mark, age: Duration) {
        let count = self.marks.len();
        if self.marks.back().is_some_and(|last| last.index >= mark.index) {
            return;
        }
        let close = count >= 2 && mark.at.since(self.marks[count - 2].at) < age / 8;
        if close || count == MARKS_MAX {
            self.marks.pop_back();
        }
        self.marks.push_back(mark);
    }

    /// The last place at or below `through` that is at least `age` old.
    pub fn older(&self, age: Duration, now: Monotonic, through: Index) -> Option<Mark> {
        let fits = |mark: &&Mark| mark.at + age <= now && mark.index <= through;
        self.marks.iter().rev().find(fits).copied()
    }

    /// When the first place above `index` will be `age` old.
    pub fn next(&self, age: Duration, index: Index) -> Option<Monotonic> {
        self.marks.iter().find(|mark| mark.index > index).map(|mark| mark.at + age)
    }

    /// Forgets what nobody needs any more.
    pub fn forget(&mut self, gone: impl Fn(&Mark) -> bool) {
        self.marks.retain(|mark| !gone(mark));
    }
}

/// At most so many are kept: more than twice as many as fit into one age.
const MARKS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(index: u64, at: u64) -> Mark {
        Mark { index: Index(index), end_offset: Offset(index * 10), at: Monotonic(at) }
    }

    #[test]
    fn an_old_place_is_found_however_many_are_noted() {
        let age = Duration::from_micros(800);
        let mut marks = Marks::default();
        for at in 1..5000 {
            marks.note(mark(at, at), age);
            assert!(marks.marks.len() <= MARKS_MAX);
            let found = marks.older(age, Monotonic(at), Index(u64::MAX));
            // Never younger than asked for, and not by much older.
            match found {
                Some(found) => {
                    assert!(found.at.0 + 800 <= at, "{found:?} at {at}");
                    assert!(found.at.0 + 1100 >= at, "{found:?} at {at}");
                    marks.forget(|mark| mark.index < found.index);
                }
                None => assert!(at < 1000, "{at}"),
            }
        }
    }

    #[test]
    fn a_full_list_moves_its_last_place_only() {
        let mut marks = Marks::default();
        for index in 1..100 {
            marks.note(mark(index, index * 1000), Duration::from_micros(1));
        }
        let old = Duration::from_micros(50_000);
        assert_eq!(marks.older(old, Monotonic(99_000), Index(5)), Some(mark(5, 5000)));
        assert_eq!(marks.older(old, Monotonic(99_000), Index(99)), Some(mark(19, 19_000)));
        assert_eq!(marks.next(old, Index(19)), Some(Monotonic(149_000)));
    }
}
