//! Hostile bytes on the Kafka port: requests of every API and version, whole, damaged, cut short and made up, sent by
//! many connections at a set rate, while a well-behaved connection beside them measures its own round trips. What it
//! measures is held against the same while as many sound requests are sent in the same way, in turns. The senders are a
//! process that yields to all others: what they take of the processors is not the broker's.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use kafka_protocol::protocol::Encodable;
use raftline_broker::limits::KAFKA_CLOSE_LINES_PER_SECOND;
use raftline_client::proto::ids::NodeId;
use raftline_kafka::api::Api;
use raftline_kafka::messages::shape;
use support::{Chance, frame, messages, mutate, sample};

use crate::cluster::Cluster;
use crate::idle;

#[allow(
    missing_docs,
    clippy::missing_docs_in_private_items,
    reason = "shared with the tests of raftline-kafka"
)]
#[path = "../../broker/kafka/tests/support/mod.rs"]
mod support;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Hostile {
    /// Frames in all.
    pub frames: u64,
    /// Connections that send them, each its part.
    pub connections: u64,
    /// Frames a second, all connections together.
    pub rate: u64,
    /// Where the damage comes from.
    pub seed: u64,
}

/// Starts a broker and measures a connection to it, in turns: alone, beside sound requests, beside the hostile frames.
///
/// # Errors
/// The broker died, alarmed, filled its log, or took more memory than its bound.
pub async fn run(program: &str, hostile: Hostile) -> anyhow::Result<()> {
    let dir = tempfile::TempDir::with_prefix("raftline-hostile-")?;
    let mut cluster = Cluster::prepare(program, "hostile", 1, dir.path(), &["--kafka", "127.0.0.1:0"]);
    cluster.start_all();
    let node = NodeId(1);
    let client = cluster.client().await;
    cluster.wait_until_ready(&client, &[]).await;
    let address = std::fs::read_to_string(cluster.data_dir(node).join("kafka.addr"))?;
    let address: SocketAddr = address.trim().parse().context("the Kafka listener's address")?;

    let started = wall_clock();
    let rounds = hostile.frames.div_ceil(ROUND_FRAMES_MAX).max(1);
    let (mut alone, mut beside_sound, mut beside_hostile) =
        (Took::default(), Took::default(), Took::default());
    let (mut closed, mut seconds) = (0, 0.0);
    let mut before = None;
    for round in 0..rounds {
        let part = Hostile { frames: hostile.frames / rounds, seed: hostile.seed + round, ..hostile };
        let meter = Meter::start(address)?;
        tokio::time::sleep(QUIET).await;
        meter.stop(&mut alone)?;
        let meter = Meter::start(address)?;
        send_from_outside(address, part, Frames::Sound).await?;
        meter.stop(&mut beside_sound)?;
        if before.is_none() {
            before = Some(idle::memory(&cluster, node)?);
        }
        let meter = Meter::start(address)?;
        let begun = wall_clock();
        closed += send_from_outside(address, part, Frames::Hostile).await?;
        seconds += begun.elapsed().as_secs_f64();
        meter.stop(&mut beside_hostile)?;
    }
    let before = before.context("there is a round")?;
    let after = idle::memory(&cluster, node)?;

    println!(
        "seed {}: {} frames in {seconds:.0} s over {} connections at a time, {closed} of which the broker closed",
        hostile.seed,
        hostile.frames / rounds * rounds,
        hostile.connections,
    );
    println!("another connection's Metadata, alone:                         {alone}");
    println!("another connection's Metadata, beside as many sound requests: {beside_sound}");
    println!("another connection's Metadata, beside the hostile ones:       {beside_hostile}");
    let ratio = |part| beside_hostile.at(part).as_secs_f64() / beside_sound.at(part).as_secs_f64();
    println!("hostile to sound: p50 {:.2}, p99 {:.2}", ratio(50), ratio(99));
    println!("resident at most: {} KiB before, {} KiB after", before.peak_kib, after.peak_kib);
    let grown = after.peak_kib.saturating_sub(before.peak_kib);
    ensure!(grown <= GROWTH_KIB_MAX, "{grown} KiB more than before, {GROWTH_KIB_MAX} allowed");
    ensure!(cluster.exit_status(node).is_none(), "the broker ended");
    let log = cluster.log(node);
    let alarms = log.lines().filter(|line| line.contains("panicked") || line.contains(" ERROR "));
    let alarms: Vec<&str> = alarms.take(3).collect();
    ensure!(alarms.is_empty(), "the broker's log: {alarms:#?}");
    let closes = log.lines().filter(|line| line.contains("Kafka connection closed")).count();
    println!("log lines about closed connections: {closes}");
    ensure!(closes > 0 && closed > 0, "the frames were not hostile");
    let lines_max = u64::from(KAFKA_CLOSE_LINES_PER_SECOND) * (started.elapsed().as_secs() + 2);
    ensure!(closes as u64 <= lines_max, "{closes} lines in the log, {lines_max} allowed");
    let status = cluster.stop(node);
    ensure!(status.success(), "the broker ended with {status}");
    println!("green");
    Ok(())
}

/// Sends from a process of its own, which has a processor only when nobody else wants it, as though it were another machine.
/// Returns how many connections the broker closed.
async fn send_from_outside(address: SocketAddr, hostile: Hostile, frames: Frames) -> anyhow::Result<u64> {
    let mut arguments = vec!["senders".to_owned(), address.to_string()];
    let numbers = [
        ("--frames", hostile.frames),
        ("--connections", hostile.connections),
        ("--rate", hostile.rate),
        ("--seed", hostile.seed),
    ];
    for (name, value) in numbers {
        arguments.extend([name.to_owned(), value.to_string()]);
    }
    if frames == Frames::Sound {
        arguments.push("--sound".to_owned());
    }
    let this = std::env::current_exe()?;
    let output = tokio::task::spawn_blocking(move || {
        let yielding = Command::new("chrt").args(["--idle", "0"]).arg(&this).args(&arguments).output();
        match yielding {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                println!("no chrt (util-linux) here: the senders compete with the broker for processors");
                Command::new(&this).args(&arguments).output()
            }
            other => other,
        }
    });
    let output = output.await??;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the senders ended with {}: {complaint}", output.status);
    String::from_utf8(output.stdout)?.trim().parse().context("how many connections were closed")
}

/// What the senders send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// Requests as clients make them.
    Sound,
    /// The same, damaged.
    Hostile,
}

/// Sends all of it, and returns how many connections the other end closed.
#[must_use]
pub fn send(address: SocketAddr, hostile: Hostile, frames: Frames) -> u64 {
    let closed = Arc::new(AtomicU64::new(0));
    let each = hostile.frames / hostile.connections;
    let pause = Duration::from_nanos(1_000_000_000 * hostile.connections / hostile.rate.max(1));
    let senders: Vec<_> = (0..hostile.connections)
        .map(|nth| {
            let closed = Arc::clone(&closed);
            thread::Builder::new().name(format!("hostile-{nth}")).spawn(move || {
                let mut sender = Sender { address, stream: None, frames_left: 0, closed };
                let mut chance = Chance(hostile.seed.wrapping_mul(1 << 20) + nth);
                let mut due = wall_clock();
                for _ in 0..each {
                    due += pause;
                    thread::sleep(due.saturating_duration_since(wall_clock()));
                    let bytes = match frames {
                        Frames::Sound => sized(&whole(&mut chance).frame()),
                        Frames::Hostile => hostile_bytes(&mut chance),
                    };
                    sender.send(&bytes, &mut chance);
                }
            })
        })
        .collect();
    for sender in senders.into_iter().flatten() {
        // A sender's panic shows in the output.
        drop(sender.join());
    }
    closed.load(Ordering::Relaxed)
}

/// One request, whole.
struct Whole {
    api: Api,
    version: i16,
    body: Vec<u8>,
}

impl Whole {
    fn frame(&self) -> Bytes {
        frame(self.api, self.version, &self.body)
    }
}

fn whole(chance: &mut Chance) -> Whole {
    let all: Vec<Api> = Api::all().collect();
    let api = all[chance.below(all.len())];
    let versions = usize::try_from(api.last_version() - api.first_version()).expect("versions ascend");
    let version = api.first_version() + i16::try_from(chance.below(versions + 1)).expect("few versions");
    let body = match shape(api) {
        Some(shape) => sample(shape, api, version, chance).to_vec(),
        None => {
            let mut encoded = bytes::BytesMut::new();
            let made = match api {
                Api::Produce => messages::produce(chance, version).encode(&mut encoded, version),
                _ => messages::fetch(chance, version).encode(&mut encoded, version),
            };
            made.map(|()| encoded.to_vec()).unwrap_or_default()
        }
    };
    Whole { api, version, body }
}

fn sized(frame: &[u8]) -> Vec<u8> {
    let size = i32::try_from(frame.len()).unwrap_or(i32::MAX);
    [&size.to_be_bytes()[..], frame].concat()
}

/// One frame with its size, or what claims to be one.
fn hostile_bytes(chance: &mut Chance) -> Vec<u8> {
    let mut request = whole(chance);
    if !chance.one_in(8) {
        request.body = mutate(&request.body, chance).to_vec();
    }
    let mut frame = request.frame();
    if chance.one_in(8) {
        frame = mutate(&frame, chance);
    }
    let size = match chance.below(64) {
        0 => i32::from_be_bytes(chance.bytes()),
        1 => -1,
        _ => i32::try_from(frame.len()).unwrap_or(i32::MAX),
    };
    [&size.to_be_bytes()[..], &frame].concat()
}

/// A connection that is made anew whenever the broker closes it, and whose answers are thrown away. Also after a few
/// frames: behind a request that waits, such as for the other members of its group, nothing is looked at.
struct Sender {
    address: SocketAddr,
    stream: Option<TcpStream>,
    frames_left: usize,
    closed: Arc<AtomicU64>,
}

impl Sender {
    fn send(&mut self, bytes: &[u8], chance: &mut Chance) {
        if self.stream.as_mut().is_some_and(|stream| !is_open(stream)) {
            self.stream = None;
            self.closed.fetch_add(1, Ordering::Relaxed);
        }
        if self.frames_left == 0 {
            self.stream = None;
        }
        if self.stream.is_none() {
            self.frames_left = 1 + chance.below(FRAMES_MAX);
            self.stream = TcpStream::connect(self.address).and_then(prepared).ok();
        }
        self.frames_left -= 1;
        if let Some(stream) = &mut self.stream
            && stream.write_all(bytes).is_err()
        {
            self.stream = None;
            self.closed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    // A broker that waits for the rest of a frame is not waited for.
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// Reads what is there, and sees whether the other end is still there.
fn is_open(stream: &mut TcpStream) -> bool {
    let mut answers = [0; 16 << 10];
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    let open = loop {
        match stream.read(&mut answers) {
            Ok(0) => break false,
            Ok(_) => {}
            Err(error) => break error.kind() == ErrorKind::WouldBlock,
        }
    };
    open && stream.set_nonblocking(false).is_ok()
}

/// A well-behaved connection that asks for metadata again and again.
struct Meter {
    stop: Arc<AtomicBool>,
    asking: thread::JoinHandle<io::Result<Vec<Duration>>>,
}

/// How long round trips took.
#[derive(Default)]
struct Took(Vec<Duration>);

impl Took {
    /// The time that this many of a hundred round trips stayed below.
    fn at(&self, part: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * part / 100).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Took {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} round trips, p50 {:?}, p99 {:?}", self.0.len(), self.at(50), self.at(99))
    }
}

impl Meter {
    fn start(address: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).and_then(prepared)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let asking = thread::Builder::new().name("meter".to_owned()).spawn(move || {
            let mut took = Vec::new();
            // Version 1, no topics.
            let request = frame(Api::Metadata, 1, &0_i32.to_be_bytes());
            let size = i32::try_from(request.len()).unwrap_or(i32::MAX);
            let request = [&size.to_be_bytes()[..], &request].concat();
            while !stopped.load(Ordering::Relaxed) {
                let begun = wall_clock();
                stream.write_all(&request)?;
                let mut size = [0; 4];
                stream.read_exact(&mut size)?;
                let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap_or(0)];
                stream.read_exact(&mut answer)?;
                took.push(begun.elapsed());
                thread::sleep(Duration::from_millis(2));
            }
            Ok(took)
        })?;
        Ok(Self { stop, asking })
    }

    /// Adds what was measured.
    fn stop(self, to: &mut Took) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let asked = self.asking.join().map_err(|_| anyhow::anyhow!("the meter panicked"))?;
        to.0.extend(asked.context("a well-behaved connection was harmed")?);
        Ok(())
    }
}

#[allow(clippy::disallowed_methods, reason = "a measurement of real time")]
fn wall_clock() -> Instant {
    Instant::now()
}

/// Frames of one connection at most.
const FRAMES_MAX: usize = 8;

/// Frames of one round, hostile or sound: some seconds of each in turn, so that the machine is the same for both.
const ROUND_FRAMES_MAX: u64 = 50_000;

/// How long the other connection is measured alone, in each round.
const QUIET: Duration = Duration::from_secs(5);

/// The shares of memory that requests may take (`KAFKA_FRAME_KIBIBYTES_MAX`), and as much for small buffers, groups
/// that damaged requests made, and the allocator's rounding.
const GROWTH_KIB_MAX: u64 = 512 << 10;
