//! The thread that looks at what nobody reads, at a bounded rate.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use raftline_storage::{Disk, Scrub, Suspect};

use crate::engine::AbortOnPanic;
use crate::limits;

/// The handle of the thread.
pub struct Scrubber {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Scrubber {
    /// Starts the thread. It tells of each place that the log itself has to examine: the end of each file, too.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start<D: Disk>(
        disk: D,
        groups_dir: PathBuf,
        tell: impl Fn(Suspect) + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let mut scrub = Scrub::new(disk, groups_dir);
        let builder = Builder::new().name("scrub".into()).stack_size(limits::SMALL_STACK_BYTES);
        let thread = builder.spawn(move || {
            let _guard = AbortOnPanic;
            let mut wait = limits::SCRUB_INTERVAL;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = some(&mut scrub, &tell);
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread.
    pub fn stop(self) {
        drop(self.stop);
        drop(self.thread.join());
    }
}

/// Looks at as much as an interval may take; says how long to wait then.
fn some<D: Disk>(scrub: &mut Scrub<D>, tell: &impl Fn(Suspect)) -> Duration {
    let mut bytes_left = limits::SCRUB_STEP_BYTES;
    for _ in 0..limits::SCRUB_STEP_FILES {
        match scrub.step(bytes_left) {
            Ok(seen) if seen.is_end => return limits::SCRUB_REST,
            Ok(seen) => {
                seen.suspect.into_iter().for_each(tell);
                bytes_left = bytes_left.saturating_sub(seen.bytes);
            }
            Err(error) => {
                tracing::debug!(%error, "the scrub waits: a directory cannot be listed");
                return limits::SCRUB_REST;
            }
        }
        if bytes_left == 0 {
            break;
        }
    }
    limits::SCRUB_INTERVAL
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::testing::rounds;
    use raftline_storage::SimDisk;

    #[test]
    fn it_comes_by_all_groups_and_stops_when_told() {
        let disk = SimDisk::new();
        let round = rounds(&disk, 0, 20);
        round.run().expect("the simulated disk works");
        let (sender, suspects) = mpsc::channel();
        let tell = move |suspect| {
            let _ = sender.send(suspect);
        };
        let scrubber = Scrubber::start(disk, "/data/groups".into(), tell).expect("a thread");
        let mut groups: Vec<_> = (0..20)
            .map(|_| suspects.recv_timeout(Duration::from_secs(60)).expect("the end of a file").group)
            .collect();
        groups.dedup();
        assert_eq!(groups.len(), 20);
        scrubber.stop();
        assert!(suspects.recv().is_err(), "the thread has ended");
    }
}
