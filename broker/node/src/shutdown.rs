//! When to stop: on a first signal in good order, on a second one at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two requests that a broker heeds. Tests make them by hand.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Hand leaderships over, then stop.
    pub in_order: CancellationToken,
    /// Do not wait for that any longer.
    pub at_once: CancellationToken,
}

impl Stop {
    /// Requests made by SIGTERM and SIGINT. Runs a task of the current runtime.
    ///
    /// # Errors
    /// If the process may not handle signals.
    pub fn on_signals() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = Self::default();
        let requests = [stop.in_order.clone(), stop.at_once.clone()];
        tokio::spawn(async move {
            for request in requests {
                let signal = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                tracing::info!(signal, "asked to stop");
                request.cancel();
            }
        });
        Ok(stop)
    }
}
