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

use disruptor::{BusySpin, EventPoller, MultiProducer, MultiProducerBarrier, Producer, SingleConsumerBarrier};
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
