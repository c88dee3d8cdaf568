//! Arguments of the commands that capture a live server: `backup`, `digest`, `migrate`.

use std::path::PathBuf;
use std::time::Duration;

use replsync::capture::{Allowed, AttachOptions, Options};
use replsync::spool;

use super::compare::size;
use super::{Loss, duration};
use crate::exit::{ExitCode, Failure};

const HEADING: &str = "Capture of a live server";

/// How a live server is captured: what it may cost the server, and what may wait on disk.
#[derive(Clone, Debug, clap::Args)]
pub struct CaptureArgs {
    /// Where copies wait on disk until the cut: a local folder, best with room for all data [default: the folder for
    /// temporary files]
    #[arg(long, value_name = "DIR", help_heading = HEADING)]
    pub spool: Option<PathBuf>,
    /// How much may wait there; more ends it (exit code 5)
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "10GiB", help_heading = HEADING)]
    pub spool_max_bytes: u64,
    /// Hold up the source's writers for the cut, for at most this long; 0 for never, and it may take many rounds then
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "100ms", help_heading = HEADING)]
    pub max_pause: Duration,
    /// Read no more than so many keys a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = HEADING)]
    pub max_keys_per_second: Option<u64>,
    /// Read no more than so many bytes a second, such as 20MiB
    #[arg(long, value_name = "SIZE", value_parser = rate, help_heading = HEADING)]
    pub max_bytes_per_second: Option<u64>,
    /// How long one batch of keys should hold the source up
    #[arg(long, value_name = "TIME", value_parser = hold, default_value = "1ms", help_heading = HEADING)]
    pub hold: Duration,
    /// Read values that take more memory than this in parts
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1MiB", help_heading = HEADING)]
    pub big_value_bytes: u64,
    /// Ask at once for values that cannot be read in parts up to this: the source holds a copy meanwhile
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64MiB", help_heading = HEADING)]
    pub max_dump_bytes: u64,
    /// What may be read while writers are held up, of values that are written all the time
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "16MiB", help_heading = HEADING)]
    pub pause_bytes: u64,
    /// Give up (exit code 5) when there was no exact cut for this long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10m", help_heading = HEADING)]
    pub give_up_after: Duration,
    /// Give up when the link to the source, or another connection to it, stays down for this long
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s", help_heading = HEADING)]
    pub reconnect_for: Duration,
    /// Attach to a source that takes writes only with enough replicas, and counts us as one
    #[arg(long, help_heading = HEADING)]
    pub allow_counted_as_replica: bool,
    /// Go on without something that cannot be copied
    #[arg(long, value_enum, help_heading = HEADING)]
    pub allow_loss: Vec<Loss>,
}

/// A capture's two halves share one account of what is on disk: ask for them once, with [`CaptureArgs::settle`].
pub struct Settled {
    pub attach: AttachOptions,
    pub options: Options,
}

impl CaptureArgs {
    /// As the library wants it. Whether files can be made in the spool's folder is tried.
    pub fn settle(&self) -> Result<Settled, Failure> {
        let spool = self.spool();
        spool
            .check()
            .map_err(|error| Failure { message: format!("--spool: {error}"), code: ExitCode::Unreachable })?;
        Ok(Settled { attach: self.attach_with(spool.clone()), options: self.options_with(spool) })
    }

    fn spool(&self) -> spool::Config {
        let mut config =
            spool::Config { budget: spool::Budget::new(self.spool_max_bytes), ..Default::default() };
        if let Some(folder) = &self.spool {
            config.folder.clone_from(folder);
        }
        config
    }

    fn options_with(&self, spool: spool::Config) -> Options {
        Options {
            max_pause: (!self.max_pause.is_zero()).then_some(self.max_pause),
            hold: self.hold,
            big_value_bytes: self.big_value_bytes,
            max_dump_bytes: self.max_dump_bytes,
            pause_bytes: self.pause_bytes,
            max_keys_per_s: self.max_keys_per_second,
            max_bytes_per_s: self.max_bytes_per_second,
            give_up_after: self.give_up_after,
            spool,
            ..Options::default()
        }
    }

    fn attach_with(&self, spool: spool::Config) -> AttachOptions {
        AttachOptions {
            allowed: Allowed {
                counted_as_replica: self.allow_counted_as_replica,
                module_aux_loss: self.allow_loss.contains(&Loss::ModuleAux),
                inexact: false,
            },
            reconnect_for: self.reconnect_for,
            spool,
            ..AttachOptions::default()
        }
    }
}

/// A size of which there must be something.
fn rate(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("more than nothing a second".to_owned()),
        bytes => Ok(bytes),
    }
}

fn hold(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("more than no time at all, such as 1ms".to_owned()),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        capture: CaptureArgs,
    }

    #[test]
    fn the_defaults_are_those_of_the_library() {
        let Settled { attach, options } = Only::parse_from(["x"]).capture.settle().unwrap();
        let library = (AttachOptions::default(), Options::default());
        assert_eq!(format!("{options:?}"), format!("{:?}", library.1));
        assert_eq!(format!("{attach:?}"), format!("{:?}", library.0));
    }

    #[test]
    fn no_pause_is_none() {
        let capture = Only::parse_from(["x", "--max-pause", "0", "--max-bytes-per-second", "1MiB"]).capture;
        let options = capture.settle().unwrap().options;
        assert_eq!((options.max_pause, options.max_bytes_per_s), (None, Some(1 << 20)));
        assert!(Only::try_parse_from(["x", "--max-keys-per-second", "0"]).is_err());
        assert!(Only::try_parse_from(["x", "--max-bytes-per-second", "0"]).is_err());
        assert!(Only::try_parse_from(["x", "--hold", "0"]).is_err());
    }
}
