//! Raftline's broker daemon: threads, rings, sockets and the clock around the pure shards.
//!
//! The crate makes no protocol decision: what to do is decided by `raftline-shard`, this crate does it. Drive it
//! with [`run`], which is the whole of the binary `raftlined`.
//!
//! In reading order:
//! - [`server`]: how a broker starts and stops; [`config`], [`identity`], [`logging`], [`shutdown`], `greeting` serve it;
//! - [`engine`]: the threads; `shard_thread` (the turn), [`inbox`], [`handle`] and [`payload`] (the way in),
//!   [`executor`] (effects on disk), [`sync_pool`], [`lanes`], [`preallocator`], [`scrubber`], [`view`] (what is published);
//! - [`incoming`]: the listener, [`wrong_door`]: who came to the wrong one; [`peer`]: the transport between brokers, `leader_news` and `leaderships`: what they
//!   tell each other of who leads what; [`api`]: the clients' door; `kafka`: the same
//!   for Kafka's clients; `groups`: the coordinators of their consumer groups; `stamp`: the time of append;
//! - [`clock`], [`limits`], `log_limit`, `leader_lines`.
#![deny(missing_docs)]

pub mod api;
mod ballast;
mod capacity;
pub mod clock;
pub mod config;
pub mod engine;
pub mod executor;
mod greeting;
mod groups;
pub mod handle;
pub mod identity;
pub mod inbox;
pub mod incoming;
mod intake;
mod kafka;
pub mod lanes;
mod leader_lines;
mod leader_news;
mod leaderships;
pub mod limits;
mod log_limit;
pub mod logging;
pub mod payload;
pub mod peer;
pub mod preallocator;
pub mod pulse;
pub mod scrubber;
pub mod server;
pub mod shard_dirs;
mod shard_thread;
pub mod shutdown;
mod sinks;
mod stamp;
pub mod sync_pool;
pub mod view;
pub mod wrong_door;

use config::{Config, ConfigError, Invocation};
use shutdown::Stop;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// Runs `raftlined` with this command line, its first item the program's name, until the broker is told to stop.
/// Exit code 0 after a clean stop, 1 if the broker could not run or was refused by its cluster, 2 if the
/// configuration is not valid.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed = config::parse(args);
    let unread = config::variables_that_nobody_reads();
    if !matches!(parsed, Ok(Invocation::Run(_))) {
        // Before anything else that is wrong, which may be its consequence.
        unread.iter().for_each(|line| eprintln!("raftlined: {line}"));
    }
    match parsed {
        Ok(Invocation::Run(config)) => run_broker(*config, &unread),
        Ok(Invocation::Print(text)) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(ConfigError::CommandLine(error)) => {
            drop(error.print());
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
        Err(error) => {
            eprintln!("raftlined: {error}");
            ExitCode::from(2)
        }
    }
}

fn run_broker(config: Config, unread: &[String]) -> ExitCode {
    logging::start(config.log_format, &config.log_level);
    unread.iter().for_each(|line| tracing::warn!("{line}"));
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.workers)
        .max_blocking_threads(limits::BLOCKING_THREADS_MAX)
        .thread_name("raftline-io")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the socket threads could not be started");
            return ExitCode::FAILURE;
        }
    };
    let served = runtime.block_on(async {
        let asked = Stop::on_signals().map_err(server::ServeError::Signals)?;
        let greet = greeting::greet(&config);
        server::serve_and_tell(config, asked, greet).await
    });
    // What still runs (a connection that did not end in time) has nothing left to talk to.
    runtime.shutdown_background();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(reason = %error, "the broker stops");
            ExitCode::FAILURE
        }
    }
}

/// Segments, connections and many partitions want more descriptors than the usual soft limit; the hard limit is what
/// the administrator meant.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, soft = limit.current, hard = limit.maximum, "descriptor limit not raised");
    }
}
