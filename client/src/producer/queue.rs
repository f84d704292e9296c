//! Where records of one partition gather: filled by whoever sends, emptied by the sender task.

use super::Ticket;
use super::batch::OpenBatch;
use super::ticket::Settler;
use crate::clock;
use crate::config::Compression;
use crate::record::Record;
use parking_lot::Mutex;
use raftline_proto::api::Durability;
use raftline_proto::ids::PartitionIndex;
use raftline_proto::time::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// A batch that still takes records, or is closed and waits for the sender.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) batch: OpenBatch,
    pub(crate) settler: Settler,
    pub(crate) durability: Durability,
    /// When its first record was handed over.
    pub(crate) since: Instant,
}

/// The records of one partition that the sender has not yet taken.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: PartitionIndex,
    /// The lane's place in the sender's list.
    pub(crate) lane: usize,
    /// A leader is known, so keyless records may come here.
    pub(crate) usable: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    closed: VecDeque<Gathered>,
    open: Option<Gathered>,
    /// The sender knows that there is something: it need not be woken for every record.
    noticed: bool,
}

/// What [`Queue::push`] needs beside the record.
#[derive(Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) durability: Durability,
    pub(crate) compression: Compression,
    /// The bound on the batch.
    pub(crate) batch_bytes: usize,
    /// The most that the record adds to a batch.
    pub(crate) record_bytes: usize,
    /// What it took of the budget.
    pub(crate) charged_bytes: usize,
    pub(crate) budget: &'a Arc<Semaphore>,
    pub(crate) timestamp: Timestamp,
}

/// Whether the sender has to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Sender,
    Nobody,
}

impl Queue {
    pub(crate) fn new(topic: Arc<str>, partition: PartitionIndex, lane: usize) -> Self {
        Self { topic, partition, lane, usable: AtomicBool::new(true), state: Mutex::default() }
    }

    /// Adds a record to the open batch, or to a new one where it does not fit.
    ///
    /// # Panics
    /// If the record can be in no batch: the caller has checked its size and its headers.
    pub(crate) fn push(&self, record: &Record, terms: &Terms<'_>) -> (Ticket, Wake) {
        let mut state = self.state.lock();
        let fits = |open: &Gathered| {
            open.durability == terms.durability && open.batch.fits(terms.record_bytes, terms.batch_bytes)
        };
        let mut index = None;
        if let Some(open) = state.open.as_mut().filter(|open| fits(open)) {
            // Timestamps that lie too far apart for one batch are the one reason to fail here.
            index = open.batch.push(record, terms.timestamp);
        }
        let index = index.unwrap_or_else(|| {
            let full = state.open.take();
            state.closed.extend(full);
            let mut batch = OpenBatch::new(terms.compression);
            let index =
                batch.push(record, terms.timestamp).expect("the record's size and headers were checked");
            let settler = Settler::new(self.partition, terms.budget.clone());
            let since = clock::monotonic();
            state.open = Some(Gathered { batch, settler, durability: terms.durability, since });
            index
        });
        let open = state.open.as_mut().expect("opened above if there was none");
        let ticket = open.settler.ticket(index, terms.charged_bytes);
        let wake = if std::mem::replace(&mut state.noticed, true) { Wake::Nobody } else { Wake::Sender };
        (ticket, wake)
    }

    /// Takes the batches that are closed, and the open one if `take_open` says so of its age. `None` leaves records
    /// behind only in an open batch; its age is told.
    pub(crate) fn take(&self, take_open: impl FnOnce(Instant) -> bool) -> (Vec<Gathered>, Option<Instant>) {
        let mut state = self.state.lock();
        let mut taken: Vec<Gathered> = state.closed.drain(..).collect();
        if state.open.as_ref().is_some_and(|open| take_open(open.since)) {
            taken.extend(state.open.take());
        }
        let left = state.open.as_ref().map(|open| open.since);
        state.noticed = left.is_some();
        (taken, left)
    }

    /// Closes the open batch: whoever flushes does not wait for company.
    pub(crate) fn close_open(&self) {
        let mut state = self.state.lock();
        let open = state.open.take();
        state.closed.extend(open);
    }

    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.open.is_none() && state.closed.is_empty()
    }

    pub(crate) fn note_usable(&self, usable: bool) {
        self.usable.store(usable, Ordering::Relaxed);
    }
}
