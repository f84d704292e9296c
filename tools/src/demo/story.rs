//! What the demo says: a story for people, one document for programs.

use super::verify::Findings;
use crate::clock;
use crate::output::{Output, count};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Tells the story as it happens: on stdout for people, on stderr beside a JSON document.
pub struct Teller {
    output: Output,
    began: Instant,
}

impl Teller {
    /// The story begins now.
    pub fn new(output: Output) -> Self {
        Self { output, began: clock::monotonic() }
    }

    /// Says one thing, with the time since the beginning.
    pub fn say(&self, text: &str) {
        let line = format!("{:6.1} s  {text}\n", self.began.elapsed().as_secs_f64());
        self.print(&line);
    }

    /// Says something without a time.
    pub fn print(&self, text: &str) {
        // Whoever stopped listening does not stop the demo: its exit code still counts.
        let _ = match self.output {
            Output::Text => io::stdout().lock().write_all(text.as_bytes()),
            Output::Json => io::stderr().lock().write_all(text.as_bytes()),
        };
    }
}

/// How far writing has come: a bar on a terminal, a line every second or so elsewhere.
pub struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    last: Mutex<Instant>,
}

impl Progress {
    /// Of `total` lines.
    pub fn new(total: u64) -> Self {
        let style = ProgressStyle::with_template("         {bar:40} {percent}%  {msg}");
        let bar = io::stderr().is_terminal().then(|| ProgressBar::new(total)).map(|bar| match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        });
        Self { bar, total, last: Mutex::new(clock::monotonic()) }
    }

    /// Shows the counts.
    pub fn at(&self, sent: u64, acknowledged: u64) {
        let text = format!("{} sent, {} acknowledged", count(sent), count(acknowledged));
        if let Some(bar) = &self.bar {
            bar.set_position(acknowledged);
            bar.set_message(text);
            return;
        }
        const EVERY: Duration = Duration::from_secs(1);
        let Ok(mut last) = self.last.lock() else { return };
        if last.elapsed() >= EVERY {
            *last = clock::monotonic();
            let _ = writeln!(io::stderr(), "          {text} of {}", count(self.total));
        }
    }

    /// Says something without breaking the bar.
    pub fn tell(&self, teller: &Teller, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| teller.say(text)),
            None => teller.say(text),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Everything that the demo found out.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `held` or `broken`.
    pub verdict: &'static str,
    /// Broker processes.
    pub nodes: u32,
    /// Of the topic.
    pub partitions: u32,
    /// Replicas of each partition.
    pub replication: u32,
    /// Lines written.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Lines acknowledged.
    pub acknowledged: u64,
    /// Lines given up.
    pub failed: u64,
    /// The leader that was killed.
    pub killed_node: u32,
    /// The partitions that it led.
    pub killed_partitions: Vec<u32>,
    /// The longest time without an acknowledgement in one of these partitions.
    pub pause_ms: f64,
    /// The same for the other partitions.
    pub pause_others_ms: f64,
    /// From the restart until every replica was caught up.
    pub caught_up_ms: f64,
    /// Whether all replicas hold the same bytes in the end.
    pub replicas_identical: bool,
    /// What the comparison found.
    pub findings: Findings,
    /// How long writing took.
    pub write_seconds: f64,
    /// How long everything took.
    pub seconds: f64,
    /// Where everything was kept, if the verdict is bad.
    pub folder: Option<String>,
}

impl Report {
    /// The end of the story.
    pub fn text(&self) -> String {
        let findings = &self.findings;
        let mut text = format!(
            "\n  {} lines acknowledged, {} read back: {} lost, {} doubled, {} out of order, {} altered{}\n",
            count(self.acknowledged),
            count(findings.read),
            findings.lost,
            findings.duplicated,
            findings.reordered,
            findings.altered,
            if findings.unexpected == 0 {
                String::new()
            } else {
                format!(", {} unexpected", findings.unexpected)
            },
        );
        text += &format!(
            "  the longest pause that a producer saw: {:.0} ms on the killed leader's partitions, {:.0} ms elsewhere\n",
            self.pause_ms, self.pause_others_ms
        );
        let same = if self.replicas_identical { "hold the same bytes" } else { "DO NOT hold the same bytes" };
        text += &format!("  all {} replicas of every partition {same}\n", self.replication);
        if self.failed > 0 {
            text += &format!("  {} lines were given up without an acknowledgement\n", count(self.failed));
        }
        for example in &findings.examples {
            text += &format!("  - {example}\n");
        }
        match &self.folder {
            None => {
                text +=
                    "\nVerdict: everything that was acknowledged is there, once, in order, byte for byte.\n"
            }
            Some(folder) => {
                text += &format!("\nVerdict: BROKEN. Data and logs of all nodes are kept in {folder}\n");
            }
        }
        text
    }
}
