//! Ctrl-C for Lua programs: a flag, and a hook that looks at it every few hundred instructions.
//!
//! The hook suspends the coroutine in which it strikes, and whoever drives that coroutine drops
//! it; an error alone would end in the next `pcall`. Where a coroutine cannot be suspended (in a
//! comparator of `table.sort`, say) the hook raises, and the `pcall` of the environment passes
//! that on (see `lua/prelude.lua`).

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use mlua::{HookTriggers, Lua, VmState};
use tokio::sync::watch;

/// Instructions between two looks at the flag: some 10 µs of plain Lua, and few enough that a
/// hundred slow library calls in a row stay within what a person takes for "at once".
const LOOK_EVERY: u32 = 200;

/// So long a coroutine in the background may go on after Ctrl-C, which was not meant for it
/// unless it keeps all others from running.
const BACKGROUND_GRACE: Duration = Duration::from_millis(20);

/// So long a function that answers a peer may take: the peer has given up by then.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Shared between the thread that sees Ctrl-C and the one that runs Lua.
#[derive(Debug)]
pub(crate) struct Interrupt(watch::Sender<Option<Instant>>);

impl Interrupt {
    pub(crate) fn new() -> Arc<Interrupt> {
        Arc::new(Interrupt(watch::Sender::new(None)))
    }

    /// Asks for the end of what runs now.
    pub(crate) fn request(&self) {
        self.0.send_replace(Some(Instant::now()));
    }

    /// Forgets an earlier request.
    pub(crate) fn clear(&self) {
        self.0.send_replace(None);
    }

    /// Waits for a request.
    pub(crate) async fn requested(&self) {
        // The sender is `self`: it cannot be gone.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }

    fn at(&self) -> Option<Instant> {
        *self.0.borrow()
    }
}

/// Whose turn it is on the Lua thread.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    /// Nobody's: what the shell itself does in Lua, which is short.
    Nobody,
    /// The chunk that the user waits for.
    Foreground,
    /// A coroutine of `spawn`, `every` or `after`, running since then without a pause.
    Background(Instant),
    /// A function that answers a peer, running since then without a pause.
    Answer(Instant),
}

/// The program was ended by Ctrl-C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interrupted;

/// Drives coroutines of one Lua state so that each of them can be interrupted.
#[derive(Clone)]
pub(crate) struct Guard {
    interrupt: Arc<Interrupt>,
    turn: Rc<Cell<Turn>>,
}

impl Guard {
    /// Sets the hook of a Lua state.
    pub(crate) fn install(lua: &Lua, interrupt: Arc<Interrupt>) -> mlua::Result<Guard> {
        let guard = Guard { interrupt, turn: Rc::new(Cell::new(Turn::Nobody)) };
        let (hook_guard, raise) = (guard.clone(), Cell::new(false));
        let triggers = HookTriggers::new().every_nth_instruction(LOOK_EVERY);
        lua.set_global_hook(triggers, move |_, _| {
            if !hook_guard.strikes() {
                return Ok(VmState::Continue);
            }
            // Where it cannot be suspended the coroutine goes on, and meets the error next time.
            match raise.replace(!raise.get()) {
                true => Err(mlua::Error::runtime("interrupted")),
                false => Ok(VmState::Yield),
            }
        })?;
        Ok(guard)
    }

    /// Whether the coroutine that runs now is to end.
    pub(crate) fn strikes(&self) -> bool {
        let turn = self.turn.get();
        // Peers must not be able to occupy the shell, and nobody may sit here to press Ctrl-C.
        if matches!(turn, Turn::Answer(since) if since.elapsed() >= ANSWER_MAX) {
            return true;
        }
        let Some(at) = self.interrupt.at() else { return false };
        match turn {
            Turn::Nobody => false,
            Turn::Foreground => true,
            Turn::Background(since) | Turn::Answer(since) => {
                at >= since && at.elapsed() >= BACKGROUND_GRACE
            }
        }
    }

    /// Runs the user's chunk; Ctrl-C ends it, wherever it waits or loops.
    pub(crate) async fn foreground<T>(
        &self,
        program: impl Future<Output = T>,
    ) -> Result<T, Interrupted> {
        self.interrupt.clear();
        let outcome = tokio::select! {
            outcome = self.drive(|| Turn::Foreground, program) => outcome,
            () = self.interrupt.requested() => Err(Interrupted),
        };
        self.interrupt.clear();
        outcome
    }

    /// Runs a coroutine in the background; Ctrl-C ends it if it does not let others run.
    pub(crate) async fn background<T>(
        &self,
        program: impl Future<Output = T>,
    ) -> Result<T, Interrupted> {
        self.drive(|| Turn::Background(Instant::now()), program).await
    }

    /// Runs a function that answers a peer; it ends as those in the background do, or when it
    /// computes for longer than [`ANSWER_MAX`] at a stretch.
    pub(crate) async fn answer<T>(
        &self,
        program: impl Future<Output = T>,
    ) -> Result<T, Interrupted> {
        self.drive(|| Turn::Answer(Instant::now()), program).await
    }

    async fn drive<T>(
        &self,
        turn: impl Fn() -> Turn,
        program: impl Future<Output = T>,
    ) -> Result<T, Interrupted> {
        let mut program = Some(Box::pin(program));
        poll_fn(|context| {
            let Some(running) = program.as_mut() else { return Poll::Ready(Err(Interrupted)) };
            let _turn = TakenTurn::new(&self.turn, turn());
            let polled = running.as_mut().poll(context);
            if !self.strikes() {
                return polled.map(Ok);
            }
            // Dropped here, while the hook still strikes: `<close>` variables may loop too.
            program = None;
            Poll::Ready(Err(Interrupted))
        })
        .await
    }
}

/// Puts the former turn back when it goes.
struct TakenTurn<'a> {
    turn: &'a Cell<Turn>,
    before: Turn,
}

impl<'a> TakenTurn<'a> {
    fn new(turn: &'a Cell<Turn>, now: Turn) -> TakenTurn<'a> {
        TakenTurn { turn, before: turn.replace(now) }
    }
}

impl Drop for TakenTurn<'_> {
    fn drop(&mut self) {
        self.turn.set(self.before);
    }
}
