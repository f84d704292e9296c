//! A shard's inbox: a bounded ring that many threads publish into and one thread takes from, parking when idle.
//!
//! Two ways in. [`Sender::push`] goes through the ring and is refused when the ring's permits are used up: that is
//! the back-pressure at the door. [`Sender::notify`] is for the few things that must never be lost (a finished
//! sync, a broken connection, a new image); whoever uses it bounds them by their nature, at most one sync a shard,
//! a connection change a peer, and so on.
//!
//! The ring is the disruptor crate's multi-producer one, read through its `EventPoller`. Three traps, and why they
//! cannot spring here:
//!
//! * *A full ring makes `publish` spin.* Only `try_publish` is used, and only by the holder of a permit. There are
//!   fewer permits than slots, and a permit comes back after its slot was given back, so it finds a slot.
//! * *A slot keeps its value after it was read*, and with it every byte that hangs on it. Values are moved out: a
//!   slot is a mutex around an option. The lock is never contended, as the ring hands a slot to one side at a time.
//! * *A parked consumer can miss a wake-up.* The consumer stores "parked", fences, looks again and only then parks;
//!   a producer publishes, fences and then looks at "parked". Whichever fence comes second sees the other's store:
//!   either the consumer sees the value, or the producer sees "parked" and unparks.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::thread::Thread;
use std::time::Duration;

use disruptor::{
    BusySpin, EventPoller, MultiProducer, MultiProducerBarrier, Producer, SingleConsumerBarrier,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::limits;

/// What an inbox can hold.
#[derive(Clone, Copy, Debug)]
pub struct InboxBounds {
    /// The ring's size: a power of two, at least 64.
    pub slots: usize,
    /// Values queued at once. Invariant: less than `slots`.
    pub queued_max: usize,
    /// Values queued at once up to which clients get in. Invariant: at most `queued_max`.
    pub queued_by_clients_max: usize,
    /// Payload bytes queued at once.
    pub bytes_max: usize,
}

impl Default for InboxBounds {
    fn default() -> Self {
        Self {
            slots: limits::INBOX_SLOTS,
            queued_max: limits::INBOX_QUEUED_MAX,
            queued_by_clients_max: limits::INBOX_QUEUED_BY_CLIENTS_MAX,
            bytes_max: limits::INBOX_BYTES_MAX,
        }
    }
}

/// Who publishes, and so how full the inbox may be for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A client's request: refused first.
    Client,
    /// A peer's message.
    Peer,
}

/// Makes an inbox for values `T` and notices `N`.
///
/// # Panics
/// If the bounds contradict each other.
#[must_use]
pub fn inbox<T: Send + 'static, N: Send + 'static>(bounds: InboxBounds) -> (Sender<T, N>, Receiver<T, N>) {
    assert!(bounds.queued_max < bounds.slots, "there must be fewer permits than slots");
    assert!(bounds.queued_by_clients_max <= bounds.queued_max);
    // The wait strategy is for the crate's managed threads only; a poller never waits.
    let builder = disruptor::build_multi_producer(bounds.slots, || Mutex::new(None), BusySpin);
    let (poller, builder) = builder.new_event_poller();
    let shared = Arc::new(Shared {
        bounds,
        queued: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        closed: AtomicBool::new(false),
        parked: AtomicBool::new(false),
        consumer: OnceLock::new(),
        notices: Mutex::new(Vec::new()),
        noticed: AtomicBool::new(false),
        room: Notify::new(),
        waiting_for_room: AtomicUsize::new(0),
        wakes: AtomicUsize::new(0),
    });
    let sender = Sender { producer: Mutex::new(builder.build()), shared: Arc::clone(&shared) };
    (sender, Receiver { poller, shared })
}

/// The way in. Clones publish side by side; sharing one clone between threads works but takes turns.
pub struct Sender<T, N> {
    producer: Mutex<MultiProducer<Slot<T>, SingleConsumerBarrier>>,
    shared: Arc<Shared<N>>,
}

impl<T, N> Clone for Sender<T, N> {
    fn clone(&self) -> Self {
        Self { producer: Mutex::new(self.producer.lock().clone()), shared: Arc::clone(&self.shared) }
    }
}

impl<T: Send + 'static, N: Send + 'static> Sender<T, N> {
    /// Queues a value that holds `bytes` of payload, and wakes the consumer if it is parked.
    ///
    /// # Errors
    /// Gives the value back if the inbox is full for this class, or its consumer is gone.
    pub fn push(&self, value: T, bytes: usize, class: Class) -> Result<(), T> {
        if !self.shared.take_permit(bytes, class) {
            return Err(value);
        }
        let mut value = Some((value, bytes));
        let published = self.producer.lock().try_publish(|slot| *slot.get_mut() = value.take());
        if published.is_err() {
            self.shared.give_back(1, bytes);
        }
        match value {
            Some((value, _)) => Err(value),
            None => {
                self.shared.wake();
                Ok(())
            }
        }
    }

    /// Queues a value as soon as there is room: back-pressure for senders that can wait, like a peer's stream.
    ///
    /// # Errors
    /// Gives the value back if the consumer is gone.
    pub async fn push_when_room(&self, value: T, bytes: usize, class: Class) -> Result<(), T> {
        let mut value = value;
        loop {
            match self.push(value, bytes, class) {
                Ok(()) => return Ok(()),
                Err(refused) => value = refused,
            }
            if self.shared.closed.load(Ordering::Acquire) {
                return Err(value);
            }
            let room = self.shared.room.notified();
            tokio::pin!(room);
            // Registered before looking again, else the consumer could make room and call nobody in between.
            room.as_mut().enable();
            let _waiting = Waiting::new(&self.shared.waiting_for_room);
            fence(Ordering::SeqCst);
            match self.push(value, bytes, class) {
                Ok(()) => return Ok(()),
                Err(refused) => value = refused,
            }
            if !self.shared.closed.load(Ordering::Acquire) {
                room.await;
            }
        }
    }

    /// Queues a notice, which is never refused, and wakes the consumer if it is parked.
    pub fn notify(&self, notice: N) {
        self.shared.notices.lock().push(notice);
        self.shared.noticed.store(true, Ordering::Release);
        self.shared.wake();
    }

    /// Whether the consumer is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }
}

/// The consumer's end.
pub struct Receiver<T, N> {
    poller: EventPoller<Slot<T>, MultiProducerBarrier>,
    shared: Arc<Shared<N>>,
}

impl<T: Send + 'static, N: Send + 'static> Receiver<T, N> {
    /// Takes up to `count_max` values out, in the order in which they were published, and all notices.
    pub fn take(&mut self, count_max: usize, values: &mut Vec<T>, notices: &mut Vec<N>) {
        if self.shared.noticed.swap(false, Ordering::AcqRel) {
            notices.append(&mut self.shared.notices.lock());
        }
        let (mut count, mut bytes) = (0, 0);
        if let Ok(mut slots) = self.poller.take(count_max as u64) {
            for slot in &mut slots {
                if let Some((value, value_bytes)) = slot.lock().take() {
                    values.push(value);
                    bytes += value_bytes;
                }
                count += 1;
            }
        }
        // The guard is gone, so the slots are free: only now may their permits go to others.
        if count > 0 {
            self.shared.give_back(count, bytes);
        }
    }

    /// Parks until something is queued or `at_most` has passed. Returns at once if something is there already.
    pub fn park(&self, at_most: Duration) {
        self.shared.consumer.get_or_init(std::thread::current);
        self.shared.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let idle = !self.poller.has_available() && !self.shared.noticed.load(Ordering::Relaxed);
        if idle {
            std::thread::park_timeout(at_most);
            self.shared.wakes.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.parked.store(false, Ordering::Relaxed);
    }

    /// How often [`Receiver::park`] has slept: an idle inbox keeps this still.
    #[must_use]
    pub fn wakes(&self) -> usize {
        self.shared.wakes.load(Ordering::Relaxed)
    }
}

impl<T, N> Drop for Receiver<T, N> {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.room.notify_waiters();
    }
}

/// A value and its payload bytes, until it is taken.
type Slot<T> = Mutex<Option<(T, usize)>>;

struct Shared<N> {
    bounds: InboxBounds,
    /// Permits taken. Invariant: values in the ring never exceed `bounds.queued_max`.
    queued: AtomicUsize,
    bytes: AtomicUsize,
    closed: AtomicBool,
    parked: AtomicBool,
    consumer: OnceLock<Thread>,
    notices: Mutex<Vec<N>>,
    noticed: AtomicBool,
    room: Notify,
    waiting_for_room: AtomicUsize,
    wakes: AtomicUsize,
}

impl<N> Shared<N> {
    fn take_permit(&self, bytes: usize, class: Class) -> bool {
        let queued_max = match class {
            Class::Client => self.bounds.queued_by_clients_max,
            Class::Peer => self.bounds.queued_max,
        };
        // A refused attempt counts for a moment, which can refuse another one beside it: harmless.
        if self.closed.load(Ordering::Acquire) {
            return false;
        }
        if self.queued.fetch_add(1, Ordering::AcqRel) >= queued_max {
            self.queued.fetch_sub(1, Ordering::Release);
            return false;
        }
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        if before > 0 && bytes > 0 && before.saturating_add(bytes) > self.bounds.bytes_max {
            self.bytes.fetch_sub(bytes, Ordering::Release);
            self.queued.fetch_sub(1, Ordering::Release);
            return false;
        }
        true
    }

    fn give_back(&self, count: usize, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Release);
        self.queued.fetch_sub(count, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.waiting_for_room.load(Ordering::Relaxed) > 0 {
            self.room.notify_waiters();
        }
    }

    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed)
            && self.parked.swap(false, Ordering::Relaxed)
            && let Some(consumer) = self.consumer.get()
        {
            consumer.unpark();
        }
    }
}

/// Counts one waiter for room, also when its future is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const HOUR: Duration = Duration::from_secs(3600);

    const SMALL: InboxBounds =
        InboxBounds { slots: 64, queued_max: 48, queued_by_clients_max: 32, bytes_max: 1000 };

    fn take<T: Send + 'static, N: Send + 'static>(receiver: &mut Receiver<T, N>) -> (Vec<T>, Vec<N>) {
        let (mut values, mut notices) = (Vec::new(), Vec::new());
        receiver.take(usize::MAX, &mut values, &mut notices);
        (values, notices)
    }

    fn wait_until_parked<T, N>(sender: &Sender<T, N>) {
        while !sender.shared.parked.load(Ordering::SeqCst) {
            thread::yield_now();
        }
    }

    #[test]
    fn many_producers_lose_nothing_and_keep_their_order() {
        const PRODUCERS: u64 = 4;
        const EACH: u64 = 50_000;
        let (sender, mut receiver) = inbox::<(u64, u64), u64>(SMALL);
        let threads: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let sender = sender.clone();
                thread::Builder::new()
                    .spawn(move || {
                        for number in 0..EACH {
                            let mut value = (producer, number);
                            while let Err(refused) = sender.push(value, 0, Class::Peer) {
                                value = refused;
                                thread::yield_now();
                            }
                            if number % 1000 == 0 {
                                sender.notify(number);
                            }
                        }
                    })
                    .expect("threads can be started")
            })
            .collect();
        let mut next = vec![0; usize::try_from(PRODUCERS).unwrap()];
        let (mut notices, mut values) = (Vec::new(), Vec::new());
        while next.iter().sum::<u64>() < PRODUCERS * EACH {
            receiver.take(17, &mut values, &mut notices);
            if values.is_empty() {
                // An hour: a lost wake-up would hang the test.
                receiver.park(HOUR);
            }
            for (producer, number) in values.drain(..) {
                let expected = &mut next[usize::try_from(producer).unwrap()];
                assert_eq!(number, *expected, "producer {producer}");
                *expected += 1;
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        receiver.take(17, &mut values, &mut notices);
        assert!(values.is_empty());
        assert_eq!(notices.len() as u64, PRODUCERS * EACH / 1000);
        assert_eq!(receiver.shared.queued.load(Ordering::SeqCst), 0);
        assert_eq!(receiver.shared.bytes.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn an_idle_inbox_sleeps_and_wakes_once_for_each_push() {
        const PUSHES: u64 = 1000;
        let (sender, mut receiver) = inbox::<u64, ()>(SMALL);
        let consumer = thread::Builder::new()
            .spawn(move || {
                let (mut values, mut notices) = (Vec::new(), Vec::new());
                while values.last() != Some(&(PUSHES - 1)) {
                    receiver.take(64, &mut values, &mut notices);
                    receiver.park(if values.len() as u64 == PUSHES { Duration::ZERO } else { HOUR });
                }
                receiver.wakes() as u64
            })
            .expect("threads can be started");
        for number in 0..PUSHES {
            wait_until_parked(&sender);
            sender.push(number, 0, Class::Client).unwrap();
        }
        // One more for the park of zero length at the end.
        let wakes = consumer.join().unwrap();
        assert!(wakes <= PUSHES + 1, "{wakes} wake-ups for {PUSHES} pushes");
    }

    #[test]
    fn clients_are_refused_before_peers_and_both_before_the_ring_is_full() {
        let (sender, mut receiver) = inbox::<usize, ()>(SMALL);
        for number in 0..SMALL.queued_by_clients_max {
            sender.push(number, 0, Class::Client).unwrap();
        }
        assert_eq!(sender.push(7, 0, Class::Client), Err(7));
        for number in SMALL.queued_by_clients_max..SMALL.queued_max {
            sender.push(number, 0, Class::Peer).unwrap();
        }
        assert_eq!(sender.push(8, 0, Class::Peer), Err(8));
        sender.notify(());
        let (values, notices) = take(&mut receiver);
        assert_eq!(values, (0..SMALL.queued_max).collect::<Vec<_>>());
        assert_eq!(notices.len(), 1);
        sender.push(9, 0, Class::Client).unwrap();
        assert_eq!(take(&mut receiver).0, [9]);
    }

    #[test]
    fn payload_bytes_are_bounded_but_one_large_value_gets_in_alone() {
        let (sender, mut receiver) = inbox::<u8, ()>(SMALL);
        sender.push(1, 5000, Class::Client).unwrap();
        assert_eq!(sender.push(2, 1, Class::Client), Err(2));
        sender.push(3, 0, Class::Client).unwrap();
        assert_eq!(take(&mut receiver).0, [1, 3]);
        sender.push(4, 600, Class::Client).unwrap();
        assert_eq!(sender.push(5, 600, Class::Client), Err(5));
        sender.push(6, 400, Class::Client).unwrap();
        assert_eq!(take(&mut receiver).0, [4, 6]);
        assert_eq!(receiver.shared.bytes.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_taken_value_leaves_nothing_in_its_slot() {
        let (sender, mut receiver) = inbox::<Arc<()>, ()>(SMALL);
        let value = Arc::new(());
        sender.push(Arc::clone(&value), 0, Class::Client).unwrap();
        drop(take(&mut receiver));
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_closed_inbox_gives_values_back() {
        let (sender, receiver) = inbox::<u8, ()>(SMALL);
        drop(receiver);
        assert!(sender.is_closed());
        assert_eq!(sender.push(1, 0, Class::Client), Err(1));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(sender.push_when_room(2, 0, Class::Peer)), Err(2));
    }

    #[test]
    fn senders_that_wait_for_room_get_in_one_after_the_other() {
        const WAITERS: u64 = 200;
        let (sender, mut receiver) = inbox::<u64, ()>(SMALL);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        for number in 0..WAITERS {
            let sender = sender.clone();
            runtime.spawn(async move { sender.push_when_room(number, 10, Class::Peer).await });
        }
        let (mut values, mut notices) = (Vec::new(), Vec::new());
        while (values.len() as u64) < WAITERS {
            receiver.take(5, &mut values, &mut notices);
            if (values.len() as u64) < WAITERS {
                receiver.park(HOUR);
            }
        }
        values.sort_unstable();
        assert_eq!(values, (0..WAITERS).collect::<Vec<_>>());
    }
}
