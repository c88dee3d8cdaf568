//! SIGINT and SIGTERM.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit::{ExitCode, Failure};

/// Completes at the first SIGINT or SIGTERM, which is answered with `word`; at the second the process ends at once,
/// whatever it does.
pub fn first(word: &'static str) -> Result<impl Future<Output = ()>, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::usage(format!("cannot listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let (first, stop) = oneshot::channel();
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        let _ = first.send(());
        tracing::warn!("{word}");
        either(&mut interrupt, &mut terminate).await;
        std::process::exit(ExitCode::Stopped as i32);
    });
    Ok(async move {
        if stop.await.is_err() {
            // Nobody listens for signals any more.
            std::future::pending().await
        }
    })
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
