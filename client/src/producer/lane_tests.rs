//! The lane's rules one by one. Each batch is one record whose value is its letter.

use super::*;
use crate::clock;
use crate::config::Compression;
use crate::producer::Ticket;
use crate::producer::batch::OpenBatch;
use crate::record::Record;
use raftline_proto::batch::BatchView;
use raftline_proto::ids::{Offset, ProducerId};
use raftline_proto::time::Timestamp;
use tokio::sync::Semaphore;

const STREAM: StreamId = StreamId(1);

struct Bench {
    lane: Lane,
    now: Instant,
    tickets: Vec<Ticket>,
    identities: u64,
}

impl Bench {
    fn new(idempotent: bool) -> Self {
        let config = LaneConfig {
            topic: Arc::from("t"),
            partition: PartitionIndex(0),
            in_flight_max: 5,
            idempotent,
            delivery_timeout: Duration::from_secs(10),
        };
        Self { lane: Lane::new(config), now: clock::monotonic(), tickets: Vec::new(), identities: 0 }
    }

    /// A lane whose batch `a` is acknowledged, so that it pipelines.
    fn established() -> Self {
        let mut bench = Self::new(true);
        bench.accept("a");
        assert_eq!(bench.send_all(), "a1.0");
        bench.acknowledge(0);
        bench
    }

    fn accept(&mut self, letters: &str) {
        for letter in letters.chars() {
            let mut open = OpenBatch::new(Compression::None);
            open.push(&Record::to("t").value(letter.to_string()), Timestamp(0)).expect("fits");
            let mut settler = Settler::new(PartitionIndex(0), Arc::new(Semaphore::new(0)));
            self.tickets.push(settler.ticket(0, 1));
            let deadline = self.now + Duration::from_secs(10);
            self.lane.accept(open.close(), settler, Durability::Quorum, deadline);
        }
    }

    /// Sends what may be sent; says each batch's letter, producer and sequence.
    fn send_all(&mut self) -> String {
        if self.lane.wants_identity() {
            self.identities += 1;
            self.lane.identify(Identity { id: ProducerId(self.identities), epoch: 0 });
        }
        let mut sent = Vec::new();
        while let Some(outgoing) = self.lane.send_next(STREAM, self.now) {
            let view = BatchView::open(&outgoing.bytes).expect("valid");
            let letter = view.records().next().expect("one").expect("valid").value.expect("a letter");
            let letter = String::from_utf8_lossy(letter).into_owned();
            sent.push(match view.header().producer {
                Some(producer) => format!("{letter}{}.{}", producer.id, producer.base_sequence),
                None => letter,
            });
        }
        sent.join(" ")
    }

    fn acknowledge(&mut self, number: u64) {
        let delivery = BatchDelivery {
            base_offset: Offset(number),
            term: raftline_proto::ids::Term(1),
            durable_on: Arc::from([]),
            duplicate: false,
        };
        self.lane.acknowledged(number, delivery);
    }

    fn refuse(&mut self, number: u64, code: ErrorCode) -> Advice {
        self.lane.refused(number, Refusal { code, message: "no".into() })
    }

    /// What is known of each batch: `+` acknowledged, `.` pending, `!` certainly not stored, `?` unknown.
    fn outcomes(&self) -> String {
        let outcome = |ticket: &Ticket| match ticket.outcome_now() {
            None => '.',
            Some(Ok(_)) => '+',
            Some(Err(error)) => match error.outcome() {
                Outcome::NotStored => '!',
                Outcome::Unknown => '?',
            },
        };
        self.tickets.iter().map(outcome).collect()
    }
}

#[test]
fn the_first_travels_alone_then_five_are_under_way() {
    let mut bench = Bench::new(true);
    bench.accept("abcdefgh");
    assert_eq!(bench.send_all(), "a1.0");
    assert_eq!(bench.send_all(), "");
    bench.acknowledge(0);
    assert_eq!(bench.send_all(), "b1.1 c1.2 d1.3 e1.4 f1.5");
    bench.acknowledge(1);
    assert_eq!(bench.send_all(), "g1.6");
    assert_eq!(bench.outcomes(), "++......");
}

#[test]
fn after_a_refusal_all_are_awaited_then_sent_again_in_order() {
    let mut bench = Bench::established();
    bench.accept("bcde");
    assert_eq!(bench.send_all(), "b1.1 c1.2 d1.3 e1.4");
    assert_eq!(bench.refuse(2, ErrorCode::Busy), Advice::Pause);
    bench.acknowledge(1);
    assert_eq!(bench.send_all(), "", "d and e are still under way");
    assert_eq!(bench.refuse(3, ErrorCode::OutOfOrderSequence), Advice::GoOn);
    assert_eq!(bench.refuse(4, ErrorCode::OutOfOrderSequence), Advice::GoOn);
    assert_eq!(bench.send_all(), "c1.2 d1.3 e1.4", "under the same numbers");
}

#[test]
fn a_pause_holds_everything_back() {
    let mut bench = Bench::established();
    bench.accept("b");
    bench.send_all();
    bench.refuse(1, ErrorCode::NotLeader);
    bench.lane.pause_until(bench.now + Duration::from_millis(100));
    assert_eq!(bench.send_all(), "");
    assert_eq!(bench.lane.wake_at(), Some(bench.now + Duration::from_millis(100)));
    bench.now += Duration::from_millis(100);
    assert_eq!(bench.send_all(), "b1.1");
}

#[test]
fn a_lost_stream_keeps_names_and_order() {
    let mut bench = Bench::established();
    bench.accept("bcd");
    bench.send_all();
    bench.acknowledge(2);
    assert_eq!(bench.lane.stream_lost(STREAM, "reset"), Advice::Refresh);
    assert_eq!(bench.lane.stream(), None);
    assert_eq!(bench.send_all(), "b1.1 d1.3");
    assert_eq!(bench.lane.stream_lost(StreamId(9), "another"), Advice::GoOn);
}

#[test]
fn a_batch_refused_for_good_renames_its_successors() {
    let mut bench = Bench::established();
    bench.accept("bcd");
    assert_eq!(bench.send_all(), "b1.1 c1.2 d1.3");
    bench.refuse(1, ErrorCode::BatchTooLarge);
    assert_eq!(bench.send_all(), "", "c and d are still under way under the old name");
    bench.refuse(2, ErrorCode::OutOfOrderSequence);
    bench.refuse(3, ErrorCode::OutOfOrderSequence);
    assert_eq!(bench.send_all(), "c2.0", "under a new name, and alone until that is known");
    bench.acknowledge(2);
    assert_eq!(bench.send_all(), "d2.1");
    bench.acknowledge(3);
    assert_eq!(bench.outcomes(), "+!++");
}

#[test]
fn what_may_be_stored_is_never_sent_under_a_second_name() {
    let mut bench = Bench::established();
    bench.accept("bc");
    bench.send_all();
    bench.lane.stream_lost(STREAM, "reset");
    bench.refuse(1, ErrorCode::BatchTooLarge);
    assert_eq!(bench.send_all(), "c1.2", "its first attempt may have been stored");
    bench.accept("d");
    bench.refuse(2, ErrorCode::OutOfOrderSequence);
    assert_eq!(bench.outcomes(), "+!?.");
    assert_eq!(bench.send_all(), "d2.0", "the gap is the old name's: it is not used again");
}

#[test]
fn expiry_tells_what_is_known() {
    let mut bench = Bench::established();
    bench.accept("b");
    bench.send_all();
    bench.now += Duration::from_secs(5);
    bench.accept("c");
    bench.lane.expire(bench.now + Duration::from_secs(4));
    assert_eq!(bench.outcomes(), "+..");
    bench.now += Duration::from_secs(5);
    bench.lane.expire(bench.now);
    assert_eq!(bench.outcomes(), "+?.", "b was under way");
    bench.lane.pause_until(bench.now + Duration::from_secs(60));
    bench.lane.expire(bench.now + Duration::from_secs(5));
    assert_eq!(bench.outcomes(), "+?!", "c never left");
}

#[test]
fn without_idempotence_nothing_unknown_is_repeated() {
    let mut bench = Bench::new(false);
    bench.accept("abc");
    assert_eq!(bench.send_all(), "a b c");
    bench.refuse(0, ErrorCode::Busy);
    assert_eq!(bench.refuse(1, ErrorCode::TimedOut), Advice::Refresh);
    bench.lane.stream_lost(STREAM, "reset");
    assert_eq!(bench.outcomes(), ".??");
    assert_eq!(bench.send_all(), "a");
}

#[test]
fn sequences_wrap_to_zero() {
    let last = u32::try_from(i32::MAX).expect("positive");
    assert_eq!(sequence_after(last, 1), 0);
    assert_eq!(sequence_after(last - 1, 1), last);
    assert_eq!(sequence_after(last, 10), 9);
}
