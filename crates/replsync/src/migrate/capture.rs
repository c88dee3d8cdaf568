//! The copy by a capture: keys from the source, as by a client, into the target, without a fork.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::watch;

use super::job::{Job, attach_options};
use super::sink::TargetSink;
use super::{Error, Phase};
use crate::apply::{self, Batch, Copied};
use crate::capture::{self, Captured};
use crate::psync::Position;

/// Set once nobody waits for the sink any more: what was left to it then is not sent.
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Job {
    /// Captures the source into the target. The link then goes on right behind, from the position that is returned.
    pub(super) async fn capture(&mut self) -> Result<(Position, Copied), Error> {
        let abandoned = Abandoned(Arc::default());
        let sink = self.sink(abandoned.0.clone());
        let options = capture::Options {
            timeout: self.options.timeout,
            spool: self.options.spool.clone(),
            ..self.options.capture.clone()
        };
        let (from, how) = (self.from.clone(), attach_options(&self.options));
        let (sender, mut told) = watch::channel(capture::Progress::default());
        let capturing = capture::capture(&from, &how, options, sink, sender);
        tokio::pin!(capturing);
        let captured = loop {
            tokio::select! {
                error = self.pipeline.failure() => return Err(error.into()),
                captured = &mut capturing => break captured,
                Ok(()) = self.applied.changed() => self.note_applied(),
                Ok(()) = told.changed() => {
                    let told = *told.borrow_and_update();
                    self.note_capture(&told);
                }
                Ok(()) = self.throttled.changed() => {
                    let throttled = *self.throttled.borrow_and_update();
                    self.progress.send_modify(|progress| progress.throttled = throttled);
                }
            }
        };
        match captured.map_err(Error::of_capture) {
            Ok(captured) => Ok(self.captured(captured)),
            // It stopped because the pipeline did, which says why.
            Err(Error::Apply(apply::Error::Stopped(_))) => Err(self.pipeline.failure().await.into()),
            Err(error) => Err(error),
        }
    }

    fn sink(&self, abandoned: Arc<AtomicBool>) -> TargetSink {
        let batches = self.batches.clone();
        let emit = move |batch: Batch| {
            let cost = batch.len_bytes();
            let sends = !abandoned.load(Relaxed);
            match sends && batches.as_ref().is_some_and(|batches| batches.blocking_send(batch, cost)) {
                true => Ok(()),
                false => Err(apply::Error::Stopped("the target is gone")),
            }
        };
        TargetSink::new(self.source.server, self.target.clone(), &self.options, Box::new(emit))
    }

    fn captured(&mut self, captured: Captured<Copied>) -> (Position, Copied) {
        let Captured { output, report, link, .. } = captured;
        let start = report.position;
        tracing::info!(
            position = %start,
            rounds = report.rounds,
            copied_again = report.copied_again,
            pause_ms = report.pause.as_millis() as u64,
            forks_caused = report.forks_caused,
            "the capture is exact"
        );
        let copied = Copied { stream_db: Some(report.stream_db), ..output };
        self.done.start = Some(start);
        self.done.reconnects = report.reconnects;
        self.done.capture = Some(report);
        self.link = Some(link);
        self.progress.send_modify(|progress| {
            progress.received_offset = start.offset;
            progress.applied_offset = start.offset;
        });
        (start, copied)
    }

    fn note_capture(&mut self, told: &capture::Progress) {
        self.progress.send_modify(|progress| {
            progress.phase = match told.phase {
                capture::Phase::Attaching => Phase::Attaching,
                capture::Phase::Copying => Phase::Copying,
                capture::Phase::Converging => Phase::Converging,
                capture::Phase::Cutting => Phase::Cutting,
                capture::Phase::AtRest => Phase::AtRest,
                capture::Phase::Finishing => Phase::Finishing,
            };
            if told.keys_total > 0 {
                progress.keys_total = told.keys_total;
            }
            progress.keys_read = told.copied;
            progress.bytes_read = told.copied_bytes;
            progress.dirty = told.dirty;
            progress.rounds = told.rounds;
            progress.big_values = told.big.map_or(0, |big| big.values);
            progress.received_offset = told.offset;
            progress.link_down = told.link_down;
        });
    }
}
