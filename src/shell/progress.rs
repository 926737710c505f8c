//! How far something is that takes longer than a second: a line on standard error, where that is a terminal that can
//! draw it anew. In pipes and on dumb terminals there is nothing.

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal;

/// What is done sooner needs no progress.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// How often the line is drawn anew though nothing came.
const TICK: Duration = Duration::from_millis(200);

/// The place on the terminal for a line of progress: there is but one, and it is for what began first.
static PLACE: Mutex<Place> = Mutex::new(Place { bar: None, is_closed: false });

struct Place {
    bar: Option<ProgressBar>,
    /// Whether the terminal is for something else: a line is edited, or another program runs.
    is_closed: bool,
}

fn place() -> MutexGuard<'static, Place> {
    PLACE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes something while the line is away.
pub(crate) fn apart<T>(write: impl FnOnce() -> T) -> T {
    match &place().bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// The terminal is for something else from now on, or no more. A line that stood there does not come back.
pub(crate) fn close(is_closed: bool) {
    let mut place = place();
    place.is_closed = is_closed;
    if let Some(bar) = place.bar.take_if(|_| is_closed) {
        bar.finish_and_clear();
    }
}

/// Something that goes on, until this is dropped.
pub(crate) struct Progress(Option<Going>);

struct Going {
    bar: ProgressBar,
    /// Closed at the end.
    _ends: Sender<()>,
}

impl Progress {
    /// Begins; `total` is how many steps there are, 0 where nobody knows.
    pub(crate) fn begin(what: impl Into<String>, total: u64) -> Progress {
        let is_drawable =
            io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|it| it != "dumb");
        if !is_drawable {
            return Progress(None);
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        bar.set_style(style(total));
        bar.set_message(what.into());
        let (ends, ended) = channel::<()>();
        let late = bar.clone();
        let show = move || {
            if ended.recv_timeout(SHOWN_AFTER) == Err(RecvTimeoutError::Timeout) {
                let mut place = place();
                if place.bar.is_none() && !place.is_closed && !late.is_finished() {
                    late.set_draw_target(ProgressDrawTarget::stderr());
                    late.enable_steady_tick(TICK);
                    place.bar = Some(late);
                }
            }
        };
        // Without a thread there is no progress to see, and nothing else is wrong.
        let _ = thread::Builder::new().name("kademlua-progress".into()).spawn(show);
        Progress(Some(Going { bar, _ends: ends }))
    }

    /// How many steps there are, if that has changed.
    pub(crate) fn set_total(&self, total: u64) {
        if let Some(going) = &self.0 {
            going.bar.set_length(total);
        }
    }

    /// How many steps are done.
    pub(crate) fn set(&self, done: u64) {
        if let Some(going) = &self.0 {
            going.bar.set_position(done);
        }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let mut place = place();
        self.bar.finish_and_clear();
        place.bar.take_if(|bar| bar.is_finished());
    }
}

/// A line that fits a narrow terminal, of characters that the locale has.
fn style(total: u64) -> ProgressStyle {
    let template = match total {
        0 => "{spinner} {msg}, {elapsed}",
        _ => "{spinner} {msg} {bar:20} {percent} %, {elapsed}",
    };
    let style = ProgressStyle::with_template(template).expect("it is a template");
    if terminal::takes_unicode() {
        return style;
    }
    style.progress_chars("#>-").tick_chars("|/-\\ ")
}
