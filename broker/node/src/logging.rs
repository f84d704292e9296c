//! Log lines: structured, to standard error, for people or for machines.

use crate::config::LogFormat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// Reads a filter; `None` if it is none. A word that is no level would be a module's name to the library, and a misspelt
/// level silence everything else: a module by itself has to look like one.
#[must_use]
pub fn filter(text: &str) -> Option<EnvFilter> {
    let is_level = |part: &str| part.parse::<LevelFilter>().is_ok();
    let parts = text.split(',').map(str::trim);
    let clear = parts.into_iter().all(|part| is_level(part) || part.contains(['=', '[', ':', '_']));
    if clear { EnvFilter::builder().parse(text).ok() } else { None }
}

/// Starts the process's logging. A second call in one process (tests, tools) changes nothing.
pub fn start(format: LogFormat, level: &str) {
    let filter = EnvFilter::builder().parse_lossy(level);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        .with_writer(std::io::stderr)
        .with_target(false);
    let started = match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    drop(started);
}
