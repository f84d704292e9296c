//! What `raftlined --dev` says when it is ready: where it is, and what to try next.

use crate::config::Config;
use crate::server::Ready;
use std::fmt::Write as _;
use std::io::Write as _;

/// Greets, if this is a broker for development.
pub fn greet(config: &Config) -> impl FnOnce(&Ready) + Send + 'static {
    let wanted = config.dev.then(|| config.data_dir.display().to_string());
    move |ready| {
        if let Some(data_dir) = wanted {
            // Where nobody can read it, it need not be said.
            let _ = std::io::stdout().write_all(text(&data_dir, ready).as_bytes());
        }
    }
}

/// Where `raftline` looks if nobody says where.
const GRPC_DEFAULT: &str = "127.0.0.1:9192";

fn text(data_dir: &str, ready: &Ready) -> String {
    let Ready { grpc, kafka } = ready;
    let mut text = format!(
        "\nraftlined {} is ready: one node for development, data in {data_dir}\n\n",
        env!("CARGO_PKG_VERSION")
    );
    for (name, address) in kafka {
        let name = if kafka.len() > 1 { format!(" ({name})") } else { String::new() };
        let _ = writeln!(text, "  Kafka clients     {address}{name}");
    }
    let _ = writeln!(text, "  raftline (gRPC)   {grpc}");
    let brokers = if grpc == GRPC_DEFAULT { String::new() } else { format!(" --brokers {grpc}") };
    text.push_str("\nTry next, in another terminal:\n");
    let _ = writeln!(text, "  seq 1000 | raftline produce events{brokers}");
    let _ = writeln!(text, "  raftline consume events --until-end -f '%p/%o %s\\n'{brokers}");
    let _ = writeln!(text, "  raftline cluster status{brokers}");
    if let Some((_, address)) = kafka.first() {
        let _ = writeln!(text, "  kcat -b {address} -C -t events -e");
    }
    text.push_str("\nCtrl-C stops it. Only warnings are logged here; --log-level info shows more.\n\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_pasted_fits_the_addresses() {
        let ready = |grpc: &str| Ready {
            grpc: grpc.to_owned(),
            kafka: vec![("PLAINTEXT".to_owned(), "127.0.0.1:9092".to_owned())],
        };
        let usual = text("d", &ready("127.0.0.1:9192"));
        assert!(usual.contains("kcat -b 127.0.0.1:9092") && !usual.contains("--brokers"), "{usual}");
        let other = text("d", &ready("127.0.0.1:7777"));
        assert!(other.contains("raftline produce events --brokers 127.0.0.1:7777\n"), "{other}");
    }
}
