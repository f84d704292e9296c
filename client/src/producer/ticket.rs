//! Tickets: one per record, sharing one settlement per batch, so that a record costs no allocation of its own.

use crate::error::{DeliveryError, Outcome};
use crate::record::Delivery;
use parking_lot::Mutex;
use raftline_proto::ids::{NodeId, Offset, PartitionIndex, Term};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::sync::Semaphore;

/// What becomes of one record: a future that is ready once it is acknowledged or given up. Dropping it changes
/// nothing: the record is delivered all the same.
#[derive(Debug)]
#[must_use = "a ticket is the only way to learn whether the record was stored"]
pub struct Ticket {
    settlement: Arc<Settlement>,
    /// The record's place in its batch.
    index: u32,
    /// Where this ticket's waker stands in the settlement.
    waker: Option<usize>,
}

impl Ticket {
    /// The outcome if it is known already.
    #[must_use]
    pub fn outcome_now(&self) -> Option<Result<Delivery, DeliveryError>> {
        match &*self.settlement.state.lock() {
            State::Pending(_) => None,
            State::Settled(result) => Some(self.of_record(result)),
        }
    }

    /// The partition that the record goes to.
    #[must_use]
    pub fn partition(&self) -> PartitionIndex {
        self.settlement.partition
    }

    fn of_record(&self, result: &Result<BatchDelivery, DeliveryError>) -> Result<Delivery, DeliveryError> {
        result.as_ref().map_err(Clone::clone).map(|batch| Delivery {
            partition: self.settlement.partition,
            offset: batch.base_offset + u64::from(self.index),
            term: batch.term,
            durable_on: batch.durable_on.clone(),
            duplicate: batch.duplicate,
        })
    }
}

impl Future for Ticket {
    type Output = Result<Delivery, DeliveryError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ticket = self.get_mut();
        match &mut *ticket.settlement.state.lock() {
            State::Settled(result) => Poll::Ready(ticket.of_record(result)),
            State::Pending(wakers) => {
                match ticket.waker {
                    Some(slot) => wakers[slot].clone_from(context.waker()),
                    None => {
                        ticket.waker = Some(wakers.len());
                        wakers.push(context.waker().clone());
                    }
                }
                Poll::Pending
            }
        }
    }
}

/// What all records of one batch share.
#[derive(Debug)]
pub(crate) struct Settlement {
    partition: PartitionIndex,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Pending(Vec<Waker>),
    Settled(Result<BatchDelivery, DeliveryError>),
}

/// Where an acknowledged batch is.
#[derive(Clone, Debug)]
pub(crate) struct BatchDelivery {
    pub(crate) base_offset: Offset,
    pub(crate) term: Term,
    pub(crate) durable_on: Arc<[NodeId]>,
    pub(crate) duplicate: bool,
}

/// The one who settles a batch. Whoever drops it without doing so settles it as stopped: no ticket waits for ever.
#[derive(Debug)]
pub(crate) struct Settler {
    settlement: Arc<Settlement>,
    budget: Arc<Semaphore>,
    /// Given back to the budget on settlement.
    charged_bytes: usize,
    /// What is known if this is dropped.
    outcome: Outcome,
    settled: bool,
}

impl Settler {
    pub(crate) fn new(partition: PartitionIndex, budget: Arc<Semaphore>) -> Self {
        let settlement = Settlement { partition, state: Mutex::new(State::Pending(Vec::new())) };
        Self {
            settlement: Arc::new(settlement),
            budget,
            charged_bytes: 0,
            outcome: Outcome::NotStored,
            settled: false,
        }
    }

    /// The ticket of the batch's record at `index`, which took `charged_bytes` of the budget.
    pub(crate) fn ticket(&mut self, index: u32, charged_bytes: usize) -> Ticket {
        self.charged_bytes += charged_bytes;
        Ticket { settlement: self.settlement.clone(), index, waker: None }
    }

    /// A ticket that counts for the whole batch: for flushing.
    pub(crate) fn watch(&self) -> Ticket {
        Ticket { settlement: self.settlement.clone(), index: 0, waker: None }
    }

    /// From now on the batch may be in the log.
    pub(crate) fn note_sent(&mut self) {
        self.outcome = Outcome::Unknown;
    }

    pub(crate) fn settle(mut self, result: Result<BatchDelivery, DeliveryError>) {
        self.finish(result);
    }

    fn finish(&mut self, result: Result<BatchDelivery, DeliveryError>) {
        self.settled = true;
        let before = std::mem::replace(&mut *self.settlement.state.lock(), State::Settled(result));
        self.budget.add_permits(self.charged_bytes);
        let State::Pending(wakers) = before else {
            unreachable!("a batch is settled once: settle takes self")
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        if !self.settled {
            self.finish(Err(DeliveryError::Stopped { outcome: self.outcome }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tickets_of_one_batch_get_consecutive_offsets() {
        let budget = Arc::new(Semaphore::new(0));
        let mut settler = Settler::new(PartitionIndex(3), budget.clone());
        let (first, second) = (settler.ticket(0, 10), settler.ticket(1, 20));
        assert!(first.outcome_now().is_none());
        let delivery = BatchDelivery {
            base_offset: Offset(100),
            term: Term(2),
            durable_on: Arc::from([NodeId(1)]),
            duplicate: false,
        };
        let waiting = tokio::spawn(second);
        tokio::task::yield_now().await;
        settler.settle(Ok(delivery));
        assert_eq!(first.await.expect("delivered").offset, Offset(100));
        assert_eq!(waiting.await.expect("joined").expect("delivered").offset, Offset(101));
        assert_eq!(budget.available_permits(), 30);
    }

    #[tokio::test]
    async fn a_dropped_settler_leaves_nobody_waiting() {
        let mut settler = Settler::new(PartitionIndex(0), Arc::new(Semaphore::new(0)));
        let ticket = settler.ticket(0, 1);
        settler.note_sent();
        drop(settler);
        assert_eq!(ticket.await.expect_err("stopped").outcome(), Outcome::Unknown);
    }
}
