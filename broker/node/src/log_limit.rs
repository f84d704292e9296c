//! Log lines that others can cause at will: so many in a period, and a count of those that were left out.

use raftline_proto::time::Monotonic;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Lets so many lines through in each period.
#[derive(Debug)]
pub(crate) struct LogLimit {
    lines: u32,
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the running second began.
    begun: Option<Monotonic>,
    /// Lines said in it.
    said: u32,
    /// Lines left out since one was last said.
    left_out: u64,
}

impl LogLimit {
    pub(crate) fn new(per_second: u32) -> Self {
        Self { lines: per_second, period: Duration::from_secs(1), state: Mutex::default() }
    }

    /// One line in each `period`.
    pub(crate) fn once_in(period: Duration) -> Self {
        Self { lines: 1, period, state: Mutex::default() }
    }

    /// Whether a line may be said now: then how many were left out before it, which it has to tell.
    pub(crate) fn admit(&self, now: Monotonic) -> Option<u64> {
        // Counters are right after every step: a panic elsewhere has broken nothing.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.begun.is_none_or(|begun| now >= begun + self.period) {
            state.begun = Some(now);
            state.said = 0;
        }
        if state.said == self.lines {
            state.left_out += 1;
            return None;
        }
        state.said += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second_are_said_and_the_others_counted() {
        let limit = LogLimit::new(2);
        let at = |millis: u64| Monotonic(millis * 1000);
        assert_eq!(limit.admit(at(5)), Some(0));
        assert_eq!(limit.admit(at(5)), Some(0));
        assert_eq!(limit.admit(at(900)), None);
        assert_eq!(limit.admit(at(1004)), None);
        assert_eq!(limit.admit(at(1005)), Some(2), "the next second tells of both");
        assert_eq!(limit.admit(at(1005)), Some(0));
        assert_eq!(limit.admit(at(1900)), None);
        assert_eq!(limit.admit(at(9000)), Some(1));
    }
}
