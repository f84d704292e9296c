//! A few named threads that take jobs from one queue: for what blocks on the disk.
//!
//! Lanes are started when they are first needed: an idle broker has one of each kind.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use parking_lot::{Condvar, Mutex};

use crate::engine::AbortOnPanic;
use crate::limits;

/// Threads that run jobs `J`. Whoever submits bounds the queue.
pub struct Lanes<J: Send + 'static> {
    shared: Arc<Shared<J>>,
}

/// What becomes of queued jobs when lanes are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// They are run first.
    Finish,
    /// They are dropped; jobs that are being run are waited for.
    Drop,
}

impl<J: Send + 'static> Lanes<J> {
    /// Starts lanes, at most `lanes_max` of them, called `name-0`, `name-1` and so on.
    ///
    /// # Errors
    /// If not even one thread can be started.
    pub fn start(
        name: &'static str,
        lanes_max: usize,
        run: impl Fn(J) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let state = State { jobs: VecDeque::new(), idle: 0, stopping: false, lanes: Vec::new() };
        let shared = Arc::new(Shared {
            name,
            lanes_max: lanes_max.max(1),
            run: Box::new(run),
            state: Mutex::new(state),
            more: Condvar::new(),
        });
        shared.start_lane(&mut shared.state.lock())?;
        Ok(Self { shared })
    }

    /// How many jobs can run side by side.
    #[must_use]
    pub fn lanes_max(&self) -> usize {
        self.shared.lanes_max
    }

    /// How many threads there are now.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.shared.state.lock().lanes.len()
    }

    /// Queues jobs; returns at once.
    pub fn submit(&self, jobs: impl IntoIterator<Item = J>) {
        let mut state = self.shared.state.lock();
        let before = state.jobs.len();
        state.jobs.extend(jobs);
        let queued = state.jobs.len() - before;
        while state.idle < state.jobs.len() && state.lanes.len() < self.shared.lanes_max {
            if let Err(error) = self.shared.start_lane(&mut state) {
                tracing::warn!(name = self.shared.name, %error, "a thread could not be started: others do its work");
                break;
            }
        }
        drop(state);
        for _ in 0..queued {
            self.shared.more.notify_one();
        }
    }

    /// Ends the lanes and waits for them.
    pub fn stop(self, queued: Queued) {
        let (lanes, dropped) = {
            let mut state = self.shared.state.lock();
            state.stopping = true;
            let dropped = match queued {
                Queued::Finish => VecDeque::new(),
                Queued::Drop => std::mem::take(&mut state.jobs),
            };
            (std::mem::take(&mut state.lanes), dropped)
        };
        // Not under the lock: a job may hold anything.
        drop(dropped);
        self.shared.more.notify_all();
        for lane in lanes {
            // A lane that panics aborts the process.
            drop(lane.join());
        }
    }
}

struct Shared<J> {
    name: &'static str,
    lanes_max: usize,
    run: Box<dyn Fn(J) + Send + Sync>,
    state: Mutex<State<J>>,
    more: Condvar,
}

struct State<J> {
    jobs: VecDeque<J>,
    /// Lanes that wait for a job, counting those just started.
    idle: usize,
    stopping: bool,
    lanes: Vec<JoinHandle<()>>,
}

impl<J: Send + 'static> Shared<J> {
    fn start_lane(self: &Arc<Self>, state: &mut State<J>) -> io::Result<()> {
        let shared = Arc::clone(self);
        let name = format!("{}-{}", self.name, state.lanes.len());
        let lane = Builder::new().name(name).stack_size(limits::SMALL_STACK_BYTES).spawn(move || {
            let _guard = AbortOnPanic;
            while let Some(job) = shared.next_job() {
                (shared.run)(job);
                shared.state.lock().idle += 1;
            }
        })?;
        state.lanes.push(lane);
        state.idle += 1;
        Ok(())
    }

    /// Waits for a job; `None` once the lanes are stopping and nothing is queued.
    fn next_job(&self) -> Option<J> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                state.idle -= 1;
                return Some(job);
            }
            if state.stopping {
                return None;
            }
            self.more.wait(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn lanes_are_started_as_needed_and_finish_what_is_queued() {
        let (sender, receiver) = mpsc::channel();
        // Each job waits for all of them: with fewer lanes than jobs this would hang.
        let barrier = Arc::new(std::sync::Barrier::new(3));
        let run = move |job: u32| {
            barrier.wait();
            sender.send(job).unwrap();
        };
        let lanes = Lanes::start("test", 3, run).unwrap();
        assert_eq!(lanes.lanes(), 1);
        lanes.submit([1, 2, 3]);
        lanes.submit([4, 5, 6]);
        lanes.stop(Queued::Finish);
        let mut done: Vec<_> = receiver.iter().collect();
        done.sort_unstable();
        assert_eq!(done, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_stop_drops_what_is_queued_if_told_so() {
        let (started, starts) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let run = move |job: u32| {
            started.send(job).unwrap();
            // An error means that the test is over: the sender is gone.
            let _ = released.lock().recv();
        };
        let lanes = Lanes::start("test", 1, run).unwrap();
        lanes.submit([1, 2, 3]);
        assert_eq!(starts.recv().unwrap(), 1);
        let stopper = Builder::new().spawn(move || lanes.stop(Queued::Drop)).unwrap();
        // The queue is emptied before the running job is waited for; let that one go once nothing is left to start.
        drop(release);
        stopper.join().unwrap();
        assert!(starts.iter().count() <= 2);
    }
}
