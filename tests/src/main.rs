//! `raftline-tests`: the simulator on the command line, the cost of idle brokers, and the broker process of the
//! end-to-end tests.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZero;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use raftline_tests::disturbed::{self, Deleting, Starved};
use raftline_tests::hostile::{Frames, Hostile};
use raftline_tests::idle::Idle;
use raftline_tests::sim::campaign::{self, OnBad, Summary};
use raftline_tests::sim::run::{self, Outcome, Story, Verdict};

/// Raftline's proof.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs whole clusters in virtual time, one per seed, and checks every property after every event.
    Sim(Sim),
    /// Measures what the brokers of an idle cluster cost, and how soon a killed cluster is back.
    Idle(IdleArgs),
    /// Measures what others notice while a large topic is deleted.
    Deleting(DeletingArgs),
    /// Counts leader changes while others take the processors.
    Starved(StarvedArgs),
    /// Sends hostile bytes to a broker's Kafka port and sees what they do to it and to others.
    Hostile(HostileArgs),
    /// The senders of `hostile`: print how many connections were closed.
    #[command(hide = true)]
    Senders {
        /// The broker's Kafka port.
        address: SocketAddr,
        #[command(flatten)]
        what: HostileArgs,
        /// Send sound requests.
        #[arg(long)]
        sound: bool,
    },
    /// Runs `raftlined` with these arguments: the brokers of the end-to-end tests.
    #[command(hide = true)]
    Broker {
        /// As `raftlined` takes them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(clap::Args)]
struct Sim {
    /// Repeat this one seed and print its story.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds to run.
    #[arg(long, default_value_t = DEFAULT_SEEDS)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Threads; each runs whole seeds.
    #[arg(long)]
    threads: Option<usize>,
    /// Go on after the first bad seed.
    #[arg(long)]
    all: bool,
    /// How many of the story's last lines to print.
    #[arg(long, default_value_t = 400)]
    lines: usize,
}

#[derive(clap::Args)]
struct IdleArgs {
    /// Topics, of three partitions each.
    #[arg(long, default_value_t = 10)]
    topics: u32,
    /// MiB of records written before.
    #[arg(long, default_value_t = 0)]
    load_mib: u64,
    /// Seconds without use before the watch begins.
    #[arg(long, default_value_t = 150)]
    settle: u64,
    /// Seconds of the watch.
    #[arg(long, default_value_t = 60)]
    watch: u64,
}

#[derive(clap::Args)]
struct DeletingArgs {
    /// Partitions of the topic.
    #[arg(long, default_value_t = 300)]
    partitions: u32,
    /// MiB that it takes of each broker's disk.
    #[arg(long, default_value_t = 8192)]
    mib: u64,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 20)]
    watch: u64,
    /// How often.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

#[derive(clap::Args)]
struct StarvedArgs {
    /// Busy loops beside brokers and load.
    #[arg(long, default_value_t = 4)]
    loops: u32,
    /// Seconds of load.
    #[arg(long, default_value_t = 60)]
    watch: u64,
}

#[derive(clap::Args)]
struct HostileArgs {
    /// How many frames.
    #[arg(long, default_value_t = 1_000_000)]
    frames: u64,
    /// Over how many connections.
    #[arg(long, default_value_t = 32)]
    connections: u64,
    /// Frames a second.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// Repeats the same frames.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl HostileArgs {
    fn what(&self) -> Hostile {
        Hostile {
            frames: self.frames,
            connections: self.connections.max(1),
            rate: self.rate,
            seed: self.seed,
        }
    }
}

/// The default campaign: every mutation that must die dies within these seeds, and every mark is reached.
const DEFAULT_SEEDS: u64 = 1000;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Sim(sim) => match sim.seed {
            Some(seed) => story(seed, sim.lines),
            None => many(&sim),
        },
        Command::Idle(args) => idle_cost(&args),
        Command::Deleting(args) => deleting(&args),
        Command::Starved(args) => starved(&args),
        Command::Hostile(args) => hostile(args.what()),
        Command::Senders { address, what, sound } => {
            let frames = if sound { Frames::Sound } else { Frames::Hostile };
            println!("{}", raftline_tests::hostile::send(address, what.what(), frames));
            ExitCode::SUCCESS
        }
        Command::Broker { arguments } => {
            raftline_broker::run(std::iter::once(OsString::from("raftlined")).chain(arguments))
        }
    }
}

fn idle_cost(args: &IdleArgs) -> ExitCode {
    let idle = Idle {
        topics: args.topics,
        load_mib: args.load_mib,
        settle: Duration::from_secs(args.settle),
        watch: Duration::from_secs(args.watch),
    };
    with_brokers(async |program| raftline_tests::idle::measure(program, idle).await)
}

fn deleting(args: &DeletingArgs) -> ExitCode {
    let deleting = Deleting {
        partitions: args.partitions.max(1),
        mib: args.mib,
        watch: Duration::from_secs(args.watch),
        rounds: args.rounds.max(1),
    };
    with_brokers(async |program| disturbed::deleting(program, deleting).await)
}

fn starved(args: &StarvedArgs) -> ExitCode {
    let starved = Starved { loops: args.loops, watch: Duration::from_secs(args.watch) };
    with_brokers(async |program| disturbed::starved(program, starved).await)
}

fn hostile(hostile: Hostile) -> ExitCode {
    with_brokers(async |program| raftline_tests::hostile::run(program, hostile).await)
}

/// Runs something that starts brokers; this program is one.
fn with_brokers(run: impl AsyncFnOnce(&str) -> anyhow::Result<()>) -> ExitCode {
    let program = std::env::current_exe().map(|path| path.to_string_lossy().into_owned());
    let done = program.map_err(anyhow::Error::from).and_then(|program| {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(run(&program))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("raftline-tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn story(seed: u64, lines: usize) -> ExitCode {
    name_seed_on_panic(seed);
    let outcome = run::run(seed, Story::Lines(lines));
    println!("   seconds  node group what           detail");
    for line in &outcome.lines {
        println!("{line}");
    }
    println!(
        "seed {seed}: {} events, trace hash {:016x}, {:.1} virtual seconds, {:?}",
        outcome.events,
        outcome.hash,
        outcome.elapsed.as_secs_f64(),
        outcome.counts
    );
    match &outcome.verdict {
        Verdict::Good => println!("good: every property held; whole again after {:?}", outcome.recovery),
        Verdict::Void => println!("void: every property held, but too little happened"),
        Verdict::Bad(violation) => println!("BAD: {violation}"),
    }
    match outcome.verdict {
        Verdict::Bad(_) => ExitCode::FAILURE,
        Verdict::Good | Verdict::Void => ExitCode::SUCCESS,
    }
}

fn many(sim: &Sim) -> ExitCode {
    let threads = sim.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get));
    let on_bad = if sim.all { OnBad::GoOn } else { OnBad::Stop };
    let begun = wall_clock();
    let shown = std::sync::Mutex::new(begun);
    let seeds = sim.seeds;
    let summary = campaign::campaign(sim.start..sim.start + seeds, threads, on_bad, |outcome, summary| {
        progress(outcome, summary, seeds, begun, &shown);
    });
    print!("{summary}");
    let spent = begun.elapsed().as_secs_f64();
    println!("took {spent:.1} s, {:.1} seeds per second", f64_of(summary.seeds()) / spent);
    match summary.complaint() {
        Some(complaint) => {
            println!("RED: {complaint}");
            ExitCode::FAILURE
        }
        None => {
            println!("green");
            ExitCode::SUCCESS
        }
    }
}

fn progress(
    outcome: &Outcome,
    summary: &Summary,
    seeds: u64,
    begun: Instant,
    shown: &std::sync::Mutex<Instant>,
) {
    if let Verdict::Bad(violation) = &outcome.verdict {
        eprintln!("seed {} is BAD: {violation}", outcome.seed);
    }
    let mut shown = shown.lock().expect("no holder of this lock panics");
    if shown.elapsed() >= Duration::from_secs(5) {
        *shown = wall_clock();
        let rate = f64_of(summary.seeds()) / begun.elapsed().as_secs_f64();
        eprintln!(
            "{} of {seeds} seeds, {} void, {} bad, {rate:.1} seeds per second",
            summary.seeds(),
            summary.void.len(),
            summary.bad.len()
        );
    }
}

/// Before a release build's abort there is nothing but the panic's own output: it has to say how to repeat it.
fn name_seed_on_panic(seed: u64) {
    let earlier = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        eprintln!("seed {seed} panics; replay: {}", campaign::replay(seed));
        earlier(info);
    }));
}

#[allow(clippy::disallowed_methods, reason = "progress of a long campaign is told in real time")]
fn wall_clock() -> Instant {
    Instant::now()
}

fn f64_of(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
