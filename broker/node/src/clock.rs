//! The one place that reads the clocks. Everybody else is told the time.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use raftline_proto::time::{Monotonic, Now, Timestamp};

/// Both clocks of this process. Copies agree with each other. The monotonic one goes on while the machine is suspended: what
/// was to happen within a time is late then, and a wall clock that went on did not jump.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Since the machine was started.
    started: Duration,
}

impl Clock {
    /// A clock whose monotonic time starts now. Made once, in `main`, and copied from there.
    #[must_use]
    pub fn start() -> Self {
        Self { started: since_boot() }
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { monotonic: self.monotonic(), wall: Self::wall() }
    }

    /// Reads the monotonic clock.
    #[must_use]
    pub fn monotonic(&self) -> Monotonic {
        let elapsed = since_boot().saturating_sub(self.started);
        Monotonic(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }

    /// The monotonic time `span` from now: for deadlines.
    #[must_use]
    pub fn after(&self, span: Duration) -> Monotonic {
        self.monotonic() + span
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place that reads the clock")]
    fn wall() -> Timestamp {
        // A wall clock before 1970 is a machine that was never set: its records say "1970", nothing breaks.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// The time since the machine was started, suspended or not.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_agree_and_never_go_back() {
        let clock = Clock::start();
        let copy = clock;
        let first = clock.monotonic();
        let second = copy.monotonic();
        assert!(second >= first);
        assert!(copy.after(Duration::from_secs(1)) > second);
        assert!(clock.now().wall > Timestamp(1_600_000_000_000));
    }
}
