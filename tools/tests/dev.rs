//! `raftlined --dev` in front of somebody: it greets, what it proposes works as it stands, and its log is silent.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_broker_for_development_greets_and_what_it_says_can_be_pasted() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let program = Path::new(env!("CARGO_BIN_EXE_raftline"));
    let child = Command::new(program)
        .args(["broker", "--dev", "--grpc", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path().join("data"))
        .env_remove("RAFTLINE_LOG_LEVEL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).expect("made"))
        .spawn()
        .expect("the binary runs");
    let mut broker = Killed(child);
    let stdout = BufReader::new(broker.0.stdout.take().expect("piped"));
    let mut greeting = Vec::new();
    for line in stdout.lines() {
        let line = line.expect("text");
        let is_last = line.starts_with("Ctrl-C");
        greeting.push(line);
        if is_last {
            break;
        }
    }
    let kafka = std::fs::read_to_string(folder.path().join("data/kafka.addr")).expect("it listens");
    assert!(greeting.iter().any(|line| line.contains("is ready")), "{greeting:?}");
    assert!(
        greeting.iter().any(|line| line.contains("Kafka") && line.contains(kafka.trim())),
        "{greeting:?}"
    );

    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", program.parent().expect("a folder").display());
    let said: Vec<&String> = greeting.iter().filter(|line| line.contains("raftline ")).collect();
    let commands: Vec<&&String> = said.iter().filter(|line| line.starts_with("  ")).collect();
    let mut read = 0;
    for command in commands.iter().filter(|line| !line.contains("(gRPC)")) {
        let output =
            Command::new("sh").args(["-c", command.trim()]).env("PATH", &path).output().expect("a shell");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        if command.contains("consume") {
            read = String::from_utf8_lossy(&output.stdout).lines().count();
        }
    }
    assert_eq!(read, 1000, "{greeting:?}");
    let log = std::fs::read_to_string(log).expect("there");
    assert_eq!(log, "", "nothing was wrong");
}
