//! How a process with a node ends: whatever ends it, the node has written down what it acknowledged,
//! its threads are gone, and the terminal is as it was.
//!
//! There is one way out, [`NodeGuard`]: it is taken when the run returns, with an error or without,
//! when it panics, and when a signal asks for it.

use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::thread;

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::net::Handle;

/// The exit status that shells report for a process ended by a signal: this plus the signal's
/// number.
const BY_SIGNAL: u8 = 128;

/// The exit status of a process whose program Ctrl-C has ended: SIGINT is 2 everywhere.
pub(crate) const INTERRUPTED: u8 = BY_SIGNAL + 2;

/// A second thread that ends the process waits here until it has ended.
static ENDING: Mutex<()> = Mutex::new(());

/// Ends the node when it is dropped.
pub(crate) struct NodeGuard(Way);

/// The way out for other threads.
#[derive(Clone)]
pub(crate) struct Way {
    node: Option<Handle>,
    /// The terminal before anybody edits lines on it.
    terminal: Option<Termios>,
}

impl NodeGuard {
    /// From now on SIGTERM and SIGHUP end the process as its own end does, even where they would
    /// have no effect, as on the first process of a container.
    ///
    /// # Errors
    /// If the system has no thread or signal to give; the node has ended then.
    pub(crate) fn of(node: Option<Handle>) -> io::Result<NodeGuard> {
        let way = Way { node, terminal: tcgetattr(io::stdin()).ok() };
        let end = NodeGuard(way.clone());
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let mut requests = {
            let _inside = runtime.enter();
            Requests::new()?
        };
        let watch = move || way.now(runtime.block_on(requests.next()));
        thread::Builder::new().name("kademlua-end".into()).spawn(watch)?;
        Ok(end)
    }

    /// The way out for other threads.
    pub(crate) fn way(&self) -> &Way {
        &self.0
    }
}

impl Drop for NodeGuard {
    fn drop(&mut self) {
        // If a signal came first, it decides how the process ends.
        let _ending = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.stop_node();
    }
}

impl Way {
    /// Ends the process, whatever its other threads are doing.
    pub(crate) fn now(&self, status: u8) -> ! {
        let _ending = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
        self.stop_node();
        self.restore_terminal();
        std::process::exit(status.into())
    }

    fn stop_node(&self) {
        if let Some(node) = &self.node {
            node.stop_and_wait();
        }
    }

    /// A line may be edited: without echo, and with pasted text in brackets.
    fn restore_terminal(&self) {
        let stdin = io::stdin();
        let Some(before) = &self.terminal else { return };
        // A process in the background is stopped for trying, and the terminal belongs to another.
        let is_ours = tcgetpgrp(&stdin).is_ok_and(|group| group == getpgrp());
        if is_ours && tcgetattr(&stdin).is_ok_and(|now| now != *before) {
            // A terminal that has hung up takes nothing.
            let _ = tcsetattr(&stdin, SetArg::TCSANOW, before);
            let _ = io::stdout().write_all(b"\x1b[?2004l\r\n");
            let _ = io::stdout().flush();
        }
    }
}

/// The signals that ask a process to end, Ctrl-C not among them.
pub(crate) struct Requests {
    terminate: Signal,
    /// Not where it is ignored, as `nohup` has it.
    hang_up: Option<Signal>,
}

impl Requests {
    /// Catches them from now on.
    ///
    /// # Errors
    /// If the system has none to give.
    pub(crate) fn new() -> io::Result<Requests> {
        let hang_up = SignalKind::hangup();
        Ok(Requests {
            hang_up: (!is_ignored(hang_up)).then(|| signal(hang_up)).transpose()?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for one. Returns the exit status of a process that it ends.
    pub(crate) async fn next(&mut self) -> u8 {
        let hung_up = async {
            match &mut self.hang_up {
                Some(hang_up) => _ = hang_up.recv().await,
                None => std::future::pending().await,
            }
        };
        let kind = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            () = hung_up => SignalKind::hangup(),
        };
        BY_SIGNAL + u8::try_from(kind.as_raw_value()).expect("signals have small numbers")
    }
}

/// Whether a signal is ignored at the start. Where the system does not tell, it is not.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Settings, spawn};

    #[test]
    fn a_panic_ends_the_node_in_good_order() {
        let bind = "127.0.0.1:0".parse().unwrap();
        let node = spawn(Settings { bind, ..Settings::default() }).unwrap();
        let handle = node.clone();
        let thread = thread::spawn(move || {
            let _end = NodeGuard::of(Some(handle)).unwrap();
            panic!("as a bug has it");
        });
        assert!(thread.join().is_err());
        assert!(node.stopped());
    }
}
