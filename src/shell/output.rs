//! Where text for the user goes: to standard output, or, while a line is being edited, above
//! that line.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustyline::ExternalPrinter;

use super::{escape_lines, outside, progress, terminal, wrap};

/// Lines that wait to be shown above the line being edited; a program that prints faster than
/// the terminal shows loses some rather than memory.
const LATE_LINES_MAX: usize = 1_000;

/// Bytes of text that wait while another program has the terminal; more are lost.
const HELD_BYTES_MAX: usize = 1 << 20;

/// Shows a line of a command.
///
/// # Errors
/// If standard output takes no more. If its reader has left the kind is `BrokenPipe`, which the command line takes
/// for a quiet end.
pub(crate) fn say(line: impl Display) -> io::Result<()> {
    // One write for each line, so that lines are shown whole.
    progress::apart(|| io::stdout().lock().write_all(format!("{line}\n").as_bytes()))
}

/// As [`say`], for a person: in lines that fit the terminal.
///
/// # Errors
/// As those of [`say`].
pub(crate) fn say_wrapped(text: &str) -> io::Result<()> {
    say(wrap::for_terminal(io::stdout(), text))
}

/// Shared by the editor, the Lua thread and the log.
#[derive(Debug, Default)]
pub struct ShellOutput {
    editing: AtomicBool,
    closed: AtomicBool,
    late: OnceLock<SyncSender<String>>,
    /// Text to show once the terminal is back, while another program has it.
    held: Mutex<Option<String>>,
    /// Whether results that are longer than the screen go to the pager.
    pages: AtomicBool,
}

/// While this is held another program has the terminal.
pub(crate) struct Lent<'a>(&'a ShellOutput);

impl ShellOutput {
    /// Output that goes straight to standard output.
    pub fn new() -> Arc<ShellOutput> {
        Arc::default()
    }

    /// Shows a program's text, whole lines.
    ///
    /// # Errors
    /// If standard output takes no more.
    pub(crate) fn print(&self, text: &str) -> io::Result<()> {
        if self.hold(text) || self.print_late(text) {
            return Ok(());
        }
        let written = progress::apart(|| {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        });
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            self.closed.store(true, Ordering::SeqCst);
        }
        written
    }

    /// Whether the reader of standard output has left.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Shows text that is no result: errors, and lines of the log.
    pub(crate) fn note(&self, text: &str) {
        if !self.hold(text) && !self.print_late(text) {
            // Nobody is left to tell that standard error is closed.
            let _ = progress::apart(|| io::stderr().lock().write_all(text.as_bytes()));
        }
    }

    /// Prints an error, in lines that fit the terminal.
    pub(crate) fn complain(&self, problem: impl Display) {
        let text = escape_lines(&problem.to_string());
        self.note(&format!("{}\n", wrap::for_terminal(io::stderr(), &text)));
    }

    /// From now on lines that come while one is edited are shown through this printer.
    ///
    /// The printer may block until the editor is back, so it has a thread of its own.
    pub(crate) fn use_printer(&self, mut printer: impl ExternalPrinter + Send + 'static) {
        let (late, lines) = sync_channel::<String>(LATE_LINES_MAX);
        let show = move || while lines.recv().is_ok_and(|line| printer.print(line).is_ok()) {};
        let thread = std::thread::Builder::new().name("kademlua-late".into()).spawn(show);
        if thread.is_ok() {
            let _ = self.late.set(late);
        }
    }

    /// Tells whether a line is being edited.
    pub(crate) fn set_editing(&self, editing: bool) {
        progress::close(editing);
        self.editing.store(editing, Ordering::SeqCst);
    }

    /// From now on results that are longer than the screen go to the pager, or no more.
    pub(crate) fn page_results(&self, is_on: bool) {
        self.pages.store(is_on, Ordering::SeqCst);
    }

    /// Shows the result of a typed chunk.
    ///
    /// # Errors
    /// If standard output takes no more.
    pub(crate) fn print_result(&self, text: &str) -> io::Result<()> {
        let is_long = || terminal::height().is_some_and(|height| text.lines().count() > height);
        if self.pages.load(Ordering::SeqCst) && is_long() {
            return outside::page(self, text);
        }
        self.print(text)
    }

    /// Whether a line is being edited.
    pub(crate) fn is_editing(&self) -> bool {
        self.editing.load(Ordering::SeqCst)
    }

    /// Gives the terminal to another program: until it ends nothing else is shown there, and Ctrl-C is for it alone.
    pub(crate) fn lend(&self) -> Lent<'_> {
        *self.held() = Some(String::new());
        progress::close(true);
        Lent(self)
    }

    /// Whether another program has the terminal.
    pub(crate) fn is_lent(&self) -> bool {
        self.held().is_some()
    }

    fn held(&self) -> MutexGuard<'_, Option<String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, text: &str) -> bool {
        let mut held = self.held();
        let Some(held) = held.as_mut() else { return false };
        if held.len() + text.len() <= HELD_BYTES_MAX {
            held.push_str(text);
        }
        true
    }

    fn print_late(&self, text: &str) -> bool {
        let Some(late) = self.late.get().filter(|_| self.editing.load(Ordering::SeqCst)) else {
            return false;
        };
        match late.try_send(text.to_owned()) {
            Ok(()) | Err(TrySendError::Full(_)) => true,
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        progress::close(false);
        let held = self.0.held().take();
        // The reader may have left meanwhile.
        let _ = self.0.print(&held.unwrap_or_default());
    }
}

/// The log's way to the user.
#[derive(Clone, Debug)]
pub struct LogWriter(pub Arc<ShellOutput>);

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.note(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
