//! Progress of work that takes longer than a second: a line on standard error. Pipes and dumb terminals get
//! none.

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal;

/// Work that ends sooner shows no progress.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// How often the line is drawn while nothing is reported.
const TICK: Duration = Duration::from_millis(200);

/// The one place on the terminal for a line of progress. The work that began first has it.
static PLACE: Mutex<Place> = Mutex::new(Place { bar: None, is_closed: false });

struct Place {
    bar: Option<ProgressBar>,
    /// Whether the terminal is in other use: a line is edited, or another program runs.
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

/// Says whether the terminal is in other use from now on. A line that stood there does not come back.
pub(crate) fn close(is_closed: bool) {
    let mut place = place();
    place.is_closed = is_closed;
    if let Some(bar) = place.bar.take_if(|_| is_closed) {
        bar.finish_and_clear();
    }
}

/// Work under way. It ends when this is dropped.
pub(crate) struct Progress(Option<Going>);

struct Going {
    bar: ProgressBar,
    /// Closed at the end.
    _ends: Sender<()>,
}

impl Progress {
    /// Begins work of `total` steps; 0 if their number is not known.
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
        // Without a thread no progress is seen, and nothing else is wrong.
        let _ = thread::Builder::new().name("kademlua-progress".into()).spawn(show);
        Progress(Some(Going { bar, _ends: ends }))
    }

    /// Changes the number of steps.
    pub(crate) fn set_total(&self, total: u64) {
        if let Some(going) = &self.0 {
            going.bar.set_length(total);
        }
    }

    /// Says how many steps are done.
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

/// The look of the line: it fits a narrow terminal and uses characters that the locale has.
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
