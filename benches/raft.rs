//! What the engine costs per entry, from the proposal to the commit on all three voters of a group, beside a loop that
//! only moves the same messages through queues, in the same run. `step / queues` is the figure that travels between
//! machines.
//!
//! `cargo bench -p raftline-benches --bench raft`
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftline_proto::ids::{Index, Membership, NodeId};
use raftline_proto::time::Monotonic;
use raftline_raft::types::{
    AckWanted, AppendResult, Entry, Input, Message, Output, Recovered, ReplicateOutcome, Role, Round,
};
use raftline_raft::{Config, Raft};
use std::collections::VecDeque;
use std::hint::black_box;

/// An entry of this size stands for a small batch; the engine never sees more of it than the number.
const ENTRY_BYTES: u64 = 1024;

/// A group is replaced when its log is this long: the bench keeps all of it in memory.
const LOG_MAX: usize = 1 << 18;

const LEADER: usize = 0;

/// A message on its way.
struct Wire {
    from: NodeId,
    to: usize,
    message: Message,
    entries: Vec<Entry>,
}

/// Three replicas whose disks and network answer at once.
struct Group {
    replicas: Vec<Raft>,
    /// Entries as the leader's log has them, from index 1.
    log: Vec<Entry>,
    wires: VecDeque<Wire>,
    outputs: Vec<Output>,
}

impl Group {
    fn new() -> Self {
        let membership = Membership::of_voters((1..=3).map(NodeId).collect());
        let replica = |node| {
            let config = Config::new(NodeId(node), membership.clone(), u64::from(node));
            Raft::new(config, Recovered::default(), Monotonic::ZERO)
        };
        let replicas = (1..=3).map(replica).collect();
        let mut group = Self { replicas, log: Vec::new(), wires: VecDeque::new(), outputs: Vec::new() };
        for at in 0..3 {
            for node in (1..=3).map(NodeId).filter(|node| name(at) != *node) {
                group.tell(at, Input::PeerUp { node });
            }
        }
        let now = group.replicas[LEADER].deadline().expect("it waits for a leader");
        let mut outputs = Vec::new();
        group.replicas[LEADER].step(now, Input::Tick, &mut outputs);
        group.outputs = outputs;
        group.carry_out(LEADER);
        group.settle();
        assert_eq!(group.replicas[LEADER].role(), Role::Leader, "the bench measures a leader");
        group
    }

    /// Proposes so many entries, and runs until all three have committed them.
    fn commit(&mut self, count: u64) {
        for _ in 0..count {
            let mut outputs = std::mem::take(&mut self.outputs);
            let result = self.replicas[LEADER].propose(Monotonic::ZERO, ENTRY_BYTES, None, &mut outputs);
            result.expect("the leader has room");
            self.outputs = outputs;
            self.carry_out(LEADER);
        }
        self.end_turn(LEADER);
        self.settle();
        let last = self.replicas[LEADER].last().index;
        assert!(self.replicas.iter().all(|replica| replica.commit() == last), "not committed everywhere");
    }

    fn settle(&mut self) {
        while let Some(Wire { from, to, message, entries }) = self.wires.pop_front() {
            let mut outputs = std::mem::take(&mut self.outputs);
            let input = Input::Message { from, message, entries: &entries };
            self.replicas[to].step(Monotonic::ZERO, input, &mut outputs);
            self.outputs = outputs;
            self.carry_out(to);
            self.end_turn(to);
        }
    }

    fn tell(&mut self, at: usize, input: Input<'_>) {
        let mut outputs = std::mem::take(&mut self.outputs);
        self.replicas[at].step(Monotonic::ZERO, input, &mut outputs);
        self.outputs = outputs;
        self.carry_out(at);
    }

    /// One sync for all that the turn appended, and one flush.
    fn end_turn(&mut self, at: usize) {
        let last = self.replicas[at].last();
        if self.replicas[at].durable() < last.index {
            self.tell(at, Input::LogDurable { last });
        }
        let mut outputs = std::mem::take(&mut self.outputs);
        self.replicas[at].flush(Monotonic::ZERO, &mut outputs);
        self.outputs = outputs;
        self.carry_out(at);
    }

    fn carry_out(&mut self, at: usize) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            match output {
                Output::SaveHardState(hard_state) => self.tell(at, Input::HardStateDurable { hard_state }),
                Output::Append(entry) => self.log.push(entry),
                Output::Send { to, message } => {
                    self.wires.push_back(Wire {
                        from: name(at),
                        to: place(to),
                        message,
                        entries: Vec::new(),
                    });
                }
                Output::Replicate { to, term, previous, from, up_to, commit, ack, round, .. } => {
                    let entries = self.log[offset(from)..offset(up_to)].to_vec();
                    let bytes = entries.iter().map(|entry| entry.entry_bytes).sum();
                    let message = Message::Append { term, previous, commit, ack, round };
                    self.wires.push_back(Wire { from: name(at), to: place(to), message, entries });
                    let outcome = ReplicateOutcome::Sent;
                    self.tell(at, Input::Replicated { to, term, from, up_to, bytes, outcome });
                }
                Output::Accept { .. }
                | Output::Truncate { .. }
                | Output::Reset { .. }
                | Output::Committed { .. }
                | Output::Received { .. }
                | Output::Confirmed { .. }
                | Output::RoleChanged { .. }
                | Output::MembershipChanged(_) => {}
                Output::Alarm(alarm) => panic!("{alarm:?}"),
            }
        }
        self.outputs = outputs;
    }
}

fn name(at: usize) -> NodeId {
    NodeId(u32::try_from(at + 1).expect("three replicas"))
}

fn place(node: NodeId) -> usize {
    usize::try_from(node.get()).expect("three replicas") - 1
}

fn offset(index: Index) -> usize {
    usize::try_from(index.get()).expect("a short log") - 1
}

/// The same messages without an engine: append, acknowledgement, commit notice and its answer, for two followers.
fn queues(wires: &mut VecDeque<Wire>, count: u64) {
    let term = raftline_proto::ids::Term(1);
    let previous = raftline_proto::ids::EntryId::ZERO;
    let entries: Vec<Entry> = (1..=count)
        .map(|index| Entry {
            id: raftline_proto::ids::EntryId::new(term, Index(index)),
            entry_bytes: ENTRY_BYTES,
            membership: None,
        })
        .collect();
    for to in 1..3 {
        let append = || Message::Append {
            term,
            previous,
            commit: Index(count),
            ack: AckWanted::Durable,
            round: Round(0),
        };
        let result =
            AppendResult::Matched { durable: Index(count), received: Index(count), commit: Index(count) };
        let reply = || Message::AppendReply { term, result, round: Round(0) };
        wires.push_back(Wire { from: name(LEADER), to, message: append(), entries: entries.clone() });
        wires.push_back(Wire { from: name(to), to: LEADER, message: reply(), entries: Vec::new() });
        wires.push_back(Wire { from: name(LEADER), to, message: append(), entries: Vec::new() });
        wires.push_back(Wire { from: name(to), to: LEADER, message: reply(), entries: Vec::new() });
    }
    while let Some(wire) = wires.pop_front() {
        black_box((wire.from, wire.to, wire.message, wire.entries.len()));
    }
}

fn raft_step(criterion: &mut Criterion) {
    let mut criterion_group = criterion.benchmark_group("raft");
    for count in [1_u64, 16, 256] {
        criterion_group.throughput(Throughput::Elements(count));
        let mut wires = VecDeque::new();
        criterion_group.bench_function(BenchmarkId::new("queues", count), |bencher| {
            bencher.iter(|| queues(&mut wires, black_box(count)));
        });
        let mut group = Group::new();
        criterion_group.bench_function(BenchmarkId::new("step", count), |bencher| {
            bencher.iter(|| {
                if group.log.len() > LOG_MAX {
                    group = Group::new();
                }
                group.commit(black_box(count));
            });
        });
    }
    criterion_group.finish();
}

criterion_group!(benches, raft_step);
criterion_main!(benches);
