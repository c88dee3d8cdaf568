//! SIGINT and SIGTERM.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit::{ExitCode, Failure};

/// Completes at the first SIGINT or SIGTERM, which is answered with `word`; at the second the process ends at once,
/// whatever it does.
pub fn first(word: &'static str) -> Result<impl Future<Output = ()>, Failure> {
    let (mut interrupt, mut terminate) = listen()?;
    let (first, stop) = oneshot::channel();
    tokio::spawn(async move {
        let _ = either(&mut interrupt, &mut terminate).await;
        let _ = first.send(());
        tracing::warn!("{word}");
        let _ = either(&mut interrupt, &mut terminate).await;
        std::process::exit(ExitCode::Stopped as i32);
    });
    Ok(async move {
        if stop.await.is_err() {
            // Nobody listens for signals any more.
            std::future::pending().await
        }
    })
}

/// Does `work`; the first SIGINT or SIGTERM drops it, with exit code 4.
pub async fn unless_stopped<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let (mut interrupt, mut terminate) = listen()?;
    tokio::select! {
        ended = work => ended,
        by = either(&mut interrupt, &mut terminate) => Err(Failure {
            message: format!("stopped by {by} before the end: there is no result"),
            code: ExitCode::Stopped,
        }),
    }
}

/// SIGINT and SIGTERM.
fn listen() -> Result<(Signal, Signal), Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::usage(format!("cannot listen for signals: {error}")));
    Ok((listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?))
}

/// Which of them came.
async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}
