//! Latencies and rates, and how they are printed.

use super::disk::DiskRate;
use crate::cli::Common;
use crate::output::{Output, count, print, print_json};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::time::Duration;

/// Latencies in microseconds, three digits kept.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are in range"))
    }
}

/// Anything above an hour counts as an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

impl Latencies {
    /// Adds one.
    pub fn note(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// For a report.
    pub fn summary(&self) -> LatencySummary {
        let at = |percentile| self.0.value_at_percentile(percentile);
        LatencySummary {
            mean: self.0.mean().round(),
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            p9999: at(99.99),
            max: self.0.max(),
        }
    }
}

/// In microseconds.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "percentiles by name")]
pub struct LatencySummary {
    pub mean: f64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub p9999: u64,
    pub max: u64,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Records within the measured time.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// The measured time.
    pub time: Duration,
    /// Records that failed.
    pub failed: u64,
    /// Why the first did.
    pub failure: Option<String>,
    /// If latency was measured.
    pub latencies: Option<Latencies>,
    /// What the disk did by itself, just before.
    pub disk: Option<DiskRate>,
}

/// Prints the result: what was set, then what came out.
///
/// # Errors
/// Stdout is closed.
pub fn print_result(
    common: &Common,
    bench: &str,
    settings: Value,
    measured: &Measured,
) -> anyhow::Result<()> {
    let seconds = measured.time.as_secs_f64().max(f64::MIN_POSITIVE);
    let records_per_second = measured.records as f64 / seconds;
    let megabytes_per_second = measured.bytes as f64 / seconds / 1e6;
    let latency = measured.latencies.as_ref().map(Latencies::summary);
    if common.output == Output::Json {
        return Ok(print_json(&json!({
            "bench": bench,
            "settings": settings,
            "seconds": seconds,
            "records": measured.records,
            "bytes": measured.bytes,
            "records_per_second": records_per_second,
            "mb_per_second": megabytes_per_second,
            "failed": measured.failed,
            "failure": measured.failure,
            "latency_us": latency,
            "disk": measured.disk,
        }))?);
    }
    let mut text = format!(
        "{} records in {seconds:.1} s: {} records/s, {megabytes_per_second:.1} MB/s\n",
        count(measured.records),
        count(rounded(records_per_second)),
    );
    if let Some(latency) = latency {
        let ms = |us: u64| format!("{:.2}", us as f64 / 1000.0);
        text += &format!(
            "latency ms: mean {:.2}, p50 {}, p90 {}, p99 {}, p99.9 {}, p99.99 {}, max {}\n",
            latency.mean / 1000.0,
            ms(latency.p50),
            ms(latency.p90),
            ms(latency.p99),
            ms(latency.p999),
            ms(latency.p9999),
            ms(latency.max),
        );
    }
    if let Some(disk) = &measured.disk {
        text += &disk.line();
    }
    if let Some(failure) = &measured.failure {
        text += &format!("{} records failed, the first with: {failure}\n", count(measured.failed));
    }
    Ok(print(&text)?)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are positive, and casts saturate"
)]
pub(super) fn rounded(rate: f64) -> u64 {
    rate.round() as u64
}

/// A bar of seconds, on a terminal only.
pub fn progress(time: Duration) -> Option<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:40} {elapsed} of {len} s  {msg}");
    let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(time.as_secs().max(1)))?;
    Some(match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut latencies = Latencies::default();
        for ms in 1..=1000 {
            latencies.note(Duration::from_millis(ms));
        }
        let mut all = Latencies::default();
        all.add(&latencies);
        let summary = all.summary();
        assert_eq!(all.count(), 1000);
        let near = |found: u64, expected: u64| found.abs_diff(expected) <= expected / 500;
        assert!(
            near(summary.p50, 500_000) && near(summary.p99, 990_000) && near(summary.max, 1_000_000),
            "{summary:?}"
        );
    }
}
