//! Brokers' transports against each other, and against callers who break the rules, over real loopback sockets.

use super::*;
use crate::handle::Parcel;
use crate::inbox::{InboxBounds, inbox};
use crate::payload::{Payload, PeerBody, PeerMessage, PeerSender, SendOutcome};
use crate::pulse::{self, News, PulseLine};
use bytes::Bytes;
use raftline_proto::entry::{EntryBody, EntryInfo};
use raftline_proto::ids::{EntryId, GroupId, Incarnation, Index, Offset, Term};
use raftline_proto::peer::peer_client::PeerClient;
use raftline_proto::peer::peer_frame::Frame;
use raftline_proto::peer::peer_server::PeerServer;
use raftline_proto::peer::peer_verdict::Verdict;
use raftline_proto::peer::{self as pb, PeerFrame, RefusalReason};
use raftline_raft::types::{AckWanted, Message, Round};
use raftline_shard::types::Event;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// Nothing here takes long; a test that waits for this has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a node's shard or pulse is told.
#[derive(Debug)]
enum Told {
    Shard(Event<Payload>),
    Pulse(News),
}

/// One node's transport, its shard and its pulse replaced by a queue.
struct Node {
    peers: Peers,
    shards: Shards,
    pulse: PulseLine,
    events: mpsc::UnboundedReceiver<Told>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    clock: Clock,
    directory: Option<tempfile::TempDir>,
}

type Addresses = BTreeMap<NodeId, String>;

/// Free ports for nodes 1 and 2, and who listens there.
async fn listeners() -> (Addresses, TcpListener, TcpListener) {
    let one = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let two = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    let addresses = BTreeMap::from([(NodeId(1), address(&one)), (NodeId(2), address(&two))]);
    (addresses, one, two)
}

/// Shards and a pulse that hand all they are told to a channel.
fn shards() -> (Shards, PulseLine, mpsc::UnboundedReceiver<Told>) {
    let (sender, mut receiver) = inbox(InboxBounds::default());
    let (events, events_here) = mpsc::unbounded_channel();
    let (pulse, news) = pulse::line();
    let heard = events.clone();
    let hear = move || {
        while let Ok(news) = news.0.recv() {
            drop(heard.send(Told::Pulse(news)));
        }
    };
    std::thread::Builder::new().name("test-pulse".to_owned()).spawn(hear).unwrap();
    let forward = move || {
        let (mut parcels, mut notices): (Vec<Parcel>, Vec<crate::shard_thread::Notice>) =
            (Vec::new(), Vec::new());
        while !events.is_closed() {
            receiver.take(64, &mut parcels, &mut notices);
            for notice in notices.drain(..) {
                if let crate::shard_thread::Notice::Event(event) = notice {
                    drop(events.send(Told::Shard(*event)));
                }
            }
            for parcel in parcels.drain(..) {
                drop(events.send(Told::Shard(parcel.event)));
            }
            receiver.park(Duration::from_millis(50));
        }
    };
    std::thread::Builder::new().name("test-shard".to_owned()).spawn(forward).unwrap();
    (Shards::new(vec![sender]), pulse, events_here)
}

impl Node {
    fn start(node: u32, cluster: &str, addresses: &Addresses, listener: TcpListener) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::start_in(directory, node, cluster, addresses, listener)
    }

    fn start_in(
        directory: tempfile::TempDir,
        node: u32,
        cluster: &str,
        addresses: &Addresses,
        listener: TcpListener,
    ) -> Self {
        let drawn = Incarnation(rand::random());
        let identity = Identity::claim(directory.path(), NodeId(node), cluster, drawn).unwrap();
        let peers = Peers::new(Arc::new(identity), BootId(rand::random()), addresses);
        let (shards, pulse, events) = shards();
        let stop = CancellationToken::new();
        let clock = Clock::start();
        let mut tasks = JoinSet::new();
        let service = PeerServer::new(peers.service(
            shards.clone(),
            pulse.clone(),
            Arc::default(),
            clock,
            stop.clone(),
        ));
        let ends = stop.clone().cancelled_owned();
        tasks.spawn(async move {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let server = Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, ends);
            server.await.unwrap();
        });
        peers.dial(&pulse, clock, &stop, &mut tasks);
        Self { peers, shards, pulse, events, stop, tasks, clock, directory: Some(directory) }
    }

    /// The next event of interest.
    async fn event(&mut self, wanted: impl Fn(&Told) -> bool) -> Told {
        let next = async {
            loop {
                let event = self.events.recv().await.expect("the test's shard lives");
                if wanted(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("the event comes")
    }

    async fn connected(&mut self) {
        self.event(|told| matches!(told, Told::Pulse(News::Connected { .. }))).await;
    }

    /// Stops as a process that dies: sockets close, the directory stays.
    async fn die(mut self) -> tempfile::TempDir {
        self.stop.cancel();
        self.tasks.shutdown().await;
        self.peers.shared.local.identity.release();
        self.directory.take().unwrap()
    }

    async fn refusal_text(&self, peer: NodeId) -> String {
        let seen = async {
            loop {
                let (_, state) = self.peers.states().remove(&peer).unwrap();
                if state.last_error.contains("refuses") {
                    assert!(!state.connected);
                    return state.last_error;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("the refusal comes")
    }
}

/// A sign of life.
fn alive() -> PeerMessage {
    let condition = raftline_shard::pulse::Condition::default();
    let sign = raftline_shard::pulse::Sign { wall: raftline_proto::time::Timestamp(0), condition };
    PeerMessage { group: GroupId::COORDINATOR, body: PeerBody::Alive(sign) }
}

fn append(group: u64, entries: Vec<Bytes>) -> PeerMessage {
    let previous = EntryId::new(Term(1), Index(4));
    let message = Message::Append {
        term: Term(2),
        previous,
        commit: Index(3),
        ack: AckWanted::Durable,
        round: Round(0),
    };
    PeerMessage { group: GroupId(group), body: PeerBody::Raft { message, entries } }
}

fn entry(group: u64, index: u64) -> Bytes {
    let id = EntryId::new(Term(2), Index(index));
    let info = EntryInfo::new(GroupId(group), id, Offset(0), EntryBody::NoOp);
    Bytes::copy_from_slice(&info.header.encode(&[]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_meet_and_messages_arrive_whole() {
    let (addresses, one, two) = listeners().await;
    let mut one = Node::start(1, "c", &addresses, one);
    let mut two = Node::start(2, "c", &addresses, two);
    one.connected().await;
    two.connected().await;

    let mut outbox = one.peers.outbox();
    let vote = Message::VoteReply { term: Term(2), granted: true };
    let alive = alive();
    assert_eq!(outbox.send(NodeId(2), alive), SendOutcome::Sent);
    assert_eq!(outbox.send(NodeId(2), append(7, vec![entry(7, 5), entry(7, 6)])), SendOutcome::Sent);
    let body = PeerBody::Raft { message: vote.clone(), entries: Vec::new() };
    assert_eq!(outbox.send(NodeId(2), PeerMessage { group: GroupId(8), body }), SendOutcome::Sent);
    outbox.flush();

    let (mut seen_alive, mut seen_append, mut seen_vote) = (false, false, false);
    while !(seen_alive && seen_append && seen_vote) {
        match two.event(|_| true).await {
            Told::Pulse(News::Sign { from, boot, .. }) => {
                assert_eq!((from, boot), (NodeId(1), one.peers.shared.local.boot));
                seen_alive = true;
            }
            Told::Shard(Event::Peer { from, group, message: Message::Append { .. }, entries, payload }) => {
                assert_eq!((from, group, entries.len()), (NodeId(1), GroupId(7), 2));
                assert_eq!(payload.unwrap().bytes(), &[entry(7, 5), entry(7, 6)].concat());
                seen_append = true;
            }
            Told::Shard(Event::Peer { group, message, .. }) => {
                assert_eq!((group, &message), (GroupId(8), &vote));
                seen_vote = true;
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_process_is_told_from_a_mute_network_and_comes_back() {
    let (addresses, one, two) = listeners().await;
    let mut one = Node::start(1, "c", &addresses, one);
    let mut two = Node::start(2, "c", &addresses, two);
    one.connected().await;
    two.connected().await;
    let old_boot = two.peers.shared.local.boot;
    let directory = two.die().await;
    one.event(|told| matches!(told, Told::Pulse(News::Refused { .. }))).await;

    let listener = TcpListener::bind(&addresses[&NodeId(2)]).await.unwrap();
    let mut two = Node::start_in(directory, 2, "c", &addresses, listener);
    one.connected().await;
    two.connected().await;
    let mut outbox = two.peers.outbox();
    outbox.send(NodeId(1), alive());
    outbox.flush();
    let told = one.event(|told| matches!(told, Told::Pulse(News::Sign { .. }))).await;
    let Told::Pulse(News::Sign { boot, .. }) = told else { unreachable!("filtered") };
    assert_ne!(boot, old_boot, "the restart shows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_cluster_is_refused_by_name_and_told_to_stop() {
    let (addresses, one, two) = listeners().await;
    let _one = Node::start(1, "payments", &addresses, one);
    let two = Node::start(2, "orders", &addresses, two);
    let text = tokio::time::timeout(PATIENCE, two.peers.unwanted()).await.unwrap();
    assert!(text.contains("`payments`") && text.contains("`orders`"), "{text}");
    assert!(two.refusal_text(NodeId(1)).await.contains("--cluster"));
    let mut outbox = two.peers.outbox();
    assert_eq!(outbox.send(NodeId(1), append(1, Vec::new())), SendOutcome::Busy, "nothing gets through");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_directory_is_refused_by_both_disks_names() {
    let (addresses, one, two) = listeners().await;
    let mut one = Node::start(1, "c", &addresses, one);
    let mut two = Node::start(2, "c", &addresses, two);
    one.connected().await;
    two.connected().await;
    let known = two.peers.shared.local.identity.incarnation();
    drop(two.die().await);
    one.event(|told| matches!(told, Told::Pulse(News::Disconnected { .. } | News::Refused { .. }))).await;

    let listener = TcpListener::bind(&addresses[&NodeId(2)]).await.unwrap();
    let emptied = Node::start(2, "c", &addresses, listener);
    let found = emptied.peers.shared.local.identity.incarnation();
    let text = emptied.refusal_text(NodeId(1)).await;
    assert!(text.contains(&known.to_string()) && text.contains(&found.to_string()), "{text}");
    let text = one.refusal_text(NodeId(2)).await;
    assert!(text.contains(&known.to_string()) && text.contains(&found.to_string()), "{text}");
}

/// One entry of one group is no other group's business: the connection carries them all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_is_refused_costs_its_group_alone() {
    let (addresses, one, _two) = listeners().await;
    let mut one = Node::start(1, "c", &addresses, one);
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::claim(directory.path(), NodeId(2), "c", Incarnation(0xa2)).unwrap();
    let caller = Peers::new(Arc::new(identity), BootId(5), &addresses);
    let disk = one.peers.shared.local.identity.incarnation();
    let hello = Frame::Hello(caller.shared.local.hello(NodeId(1)));
    let mut stream = Caller::call(&addresses, hello).await.unwrap();
    assert!(matches!(stream.verdict().await, Verdict::Welcome(_)));
    let message = |group, entry| pb::GroupMessage {
        group,
        message: convert::encode(append(group, vec![entry]), BootId(5)).message,
    };
    let mut damaged = entry(7, 5).to_vec();
    damaged[9] ^= 0x10;
    let mut newer = entry(8, 5).to_vec();
    newer[6] = 99;
    let crc = crc32fast::hash(&newer[4..]);
    newer[..4].copy_from_slice(&crc.to_le_bytes());
    let batch = pb::Batch {
        from_incarnation: 0xa2,
        to_incarnation: disk.0,
        messages: vec![message(7, damaged.into()), message(8, newer.into()), message(9, entry(9, 5))],
    };
    stream.frames.send(PeerFrame { frame: Some(Frame::Batch(batch)) }).await.unwrap();
    let failed =
        one.event(|event| matches!(event, Told::Shard(Event::Failed { .. } | Event::Peer { .. }))).await;
    assert!(
        matches!(&failed, Told::Shard(Event::Failed { group: GroupId(8), reason }) if reason.contains("version 99")),
        "{failed:?}"
    );
    let next =
        one.event(|event| matches!(event, Told::Shard(Event::Failed { .. } | Event::Peer { .. }))).await;
    assert!(matches!(next, Told::Shard(Event::Peer { group: GroupId(9), .. })), "{next:?}");
}

/// A caller that says what it likes, for node 2, to a lone node 1.
struct Caller {
    frames: mpsc::Sender<PeerFrame>,
    verdicts: tonic::Streaming<pb::PeerVerdict>,
}

impl Caller {
    async fn call(addresses: &Addresses, first: Frame) -> Result<Self, tonic::Status> {
        let address = format!("http://{}", addresses[&NodeId(1)]);
        let endpoint = tonic::transport::Endpoint::from_shared(address).unwrap();
        let mut client = PeerClient::new(endpoint.connect().await.unwrap());
        let (frames, outgoing) = mpsc::channel(8);
        frames.send(PeerFrame { frame: Some(first) }).await.unwrap();
        let verdicts = client.bulk(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self { frames, verdicts })
    }

    async fn verdict(&mut self) -> Verdict {
        let verdict = tokio::time::timeout(PATIENCE, self.verdicts.message()).await.unwrap();
        verdict.unwrap().unwrap().verdict.unwrap()
    }

    async fn malformed(&mut self, batch: pb::Batch) -> String {
        self.frames.send(PeerFrame { frame: Some(Frame::Batch(batch)) }).await.unwrap();
        match self.verdict().await {
            Verdict::Refusal(refusal) => {
                assert_eq!(refusal.reason(), RefusalReason::Malformed);
                refusal.message
            }
            Verdict::Welcome(welcome) => panic!("welcomed twice: {welcome:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_breakers_are_cut_off_by_name_and_the_broker_goes_on() {
    let (addresses, one, two) = listeners().await;
    let mut one = Node::start(1, "c", &addresses, one);
    // Node 2's identity, used by hand.
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::claim(directory.path(), NodeId(2), "c", Incarnation(0xa2)).unwrap();
    let caller = Peers::new(Arc::new(identity), BootId(5), &addresses);
    let hello = || Frame::Hello(caller.shared.local.hello(NodeId(1)));
    let disk = one.peers.shared.local.identity.incarnation();
    let batch = |message| pb::Batch {
        from_incarnation: 0xa2,
        to_incarnation: disk.0,
        messages: vec![pb::GroupMessage { group: 7, message }],
    };

    let status = Caller::call(&addresses, Frame::Batch(batch(None))).await.map(drop).unwrap_err();
    assert!(status.message().contains("hello"), "{status}");

    let mut stream = Caller::call(&addresses, hello()).await.unwrap();
    assert!(matches!(stream.verdict().await, Verdict::Welcome(_)));
    let text = stream.malformed(batch(None)).await;
    assert!(text.contains("without a body"), "{text}");

    let mut stream = Caller::call(&addresses, hello()).await.unwrap();
    assert!(matches!(stream.verdict().await, Verdict::Welcome(_)));
    let stale = pb::Batch { from_incarnation: 0xbb, ..batch(None) };
    let text = stream.malformed(stale).await;
    assert!(text.contains("00000000000000bb") && text.contains("00000000000000a2"), "{text}");

    let mut stream = Caller::call(&addresses, hello()).await.unwrap();
    assert!(matches!(stream.verdict().await, Verdict::Welcome(_)));
    let body = convert::encode(append(7, vec![entry(7, 5)]), BootId(5)).message;
    stream.frames.send(PeerFrame { frame: Some(Frame::Batch(batch(body))) }).await.unwrap();
    one.event(|told| matches!(told, Told::Shard(Event::Peer { from: NodeId(2), .. }))).await;

    let again = Caller::call(&addresses, hello()).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, stream.verdicts.message()).await.unwrap();
    assert!(matches!(ended, Ok(None) | Err(_)), "a new stream of the same peer ends the old one");
    drop((again, two));
    let _ = (&one.shards, &one.pulse, one.clock);
}
