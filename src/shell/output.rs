//! Where text for the user goes: to standard output, or, while a line is being edited, above
//! that line.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};

use rustyline::ExternalPrinter;

/// Lines that wait to be shown above the line being edited; a program that prints faster than
/// the terminal shows loses some rather than memory.
const LATE_LINES_MAX: usize = 1_000;

/// Shows a line of a command.
///
/// # Errors
/// If standard output takes no more; where its reader has left, with the kind `BrokenPipe`, which the command line
/// takes for a quiet end.
pub(crate) fn say(line: impl std::fmt::Display) -> io::Result<()> {
    // One write a line: what is shown is whole.
    io::stdout().lock().write_all(format!("{line}\n").as_bytes())
}

/// Shared by the editor, the Lua thread and the log.
#[derive(Debug, Default)]
pub struct Output {
    editing: AtomicBool,
    closed: AtomicBool,
    late: OnceLock<SyncSender<String>>,
}

impl Output {
    /// Output that goes straight to standard output.
    pub fn new() -> Arc<Output> {
        Arc::default()
    }

    /// Shows a program's text, whole lines.
    ///
    /// # Errors
    /// If standard output takes no more.
    pub(crate) fn print(&self, text: &str) -> io::Result<()> {
        if self.print_late(text) {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            self.closed.store(true, Ordering::SeqCst);
        }
        written
    }

    /// Whether the reader of standard output has left.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Shows what is no result: errors, and lines of the log.
    pub(crate) fn note(&self, text: &str) {
        if !self.print_late(text) {
            // Nobody is left to tell that standard error is closed.
            let _ = io::stderr().lock().write_all(text.as_bytes());
        }
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
        self.editing.store(editing, Ordering::SeqCst);
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

/// The log's way to the user.
#[derive(Clone, Debug)]
pub struct LogWriter(pub Arc<Output>);

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.note(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
