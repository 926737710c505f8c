//! What special keys mean, and how fast keys come: text that is pasted without brackets around it looks like typing,
//! but comes in a burst.
//!
//! Serial consoles, `screen` and `expect` paste like this. The editor would redraw all lines at each key; in a burst
//! it reads line by line instead, each with a prompt of its own, and draws each character once. Nothing is indented
//! then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustyline::{
    Cmd, ConditionalEventHandler, Event, EventContext, KeyCode, KeyEvent, Modifiers, RepeatCount,
};

use super::{chunk, indent};

/// Nobody types two keys within this time; a line of 2400 bits a second does.
const BURST_GAP: Duration = Duration::from_millis(5);

/// After this many keys a burst is not worth colouring, and no tab in it is meant to complete anything: longer than a
/// script types in one go.
const LONG_BURST: usize = 64;

/// Shared by the editor, which reports keys, and the helpers that it asks about them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace(Arc<Mutex<Burst>>);

#[derive(Debug, Default)]
struct Burst {
    /// The last key.
    last: Option<Instant>,
    /// Keys so far.
    keys: usize,
    /// The lines before this one, if they were read one by one.
    before: String,
    /// Whether the line is to go to an editor instead of being run.
    wants_editor: bool,
    /// The text to put before the cursor, and where it begins.
    replacement: Option<(usize, String)>,
}

impl Pace {
    /// The next line continues these, or begins anew.
    pub(crate) fn set_before(&self, before: &str) {
        self.with(|burst| before.clone_into(&mut burst.before));
    }

    /// The whole chunk that ends with this line.
    pub(crate) fn chunk(&self, line: &str) -> String {
        self.with(|burst| burst.before.clone() + line)
    }

    /// Asks that the line be edited elsewhere.
    fn want_editor(&self) {
        self.with(|burst| burst.wants_editor = true);
    }

    /// The text to put before the cursor, and where it begins: then it is the only completion.
    pub(crate) fn take_replacement(&self) -> Option<(usize, String)> {
        self.with(|burst| burst.replacement.take())
    }

    /// Whether that was asked.
    pub(crate) fn wants_editor(&self) -> bool {
        self.with(|burst| burst.wants_editor)
    }

    /// Whether that was asked since the last time.
    pub(crate) fn takes_editor(&self) -> bool {
        self.with(|burst| std::mem::take(&mut burst.wants_editor))
    }

    /// Whether keys come so fast that they must be pasted.
    pub(crate) fn is_paste(&self) -> bool {
        self.with(|burst| burst.is_paste())
    }

    /// Notes a key. Returns whether it came in a burst, and whether that is a paste.
    fn on_key(&self, now: Instant) -> (bool, bool) {
        self.with(|burst| {
            let follows = |last| now.saturating_duration_since(last) < BURST_GAP;
            let is_fast = burst.last.replace(now).is_some_and(follows);
            burst.keys = if is_fast { burst.keys + 1 } else { 1 };
            (is_fast, burst.is_paste())
        })
    }

    fn with<T>(&self, what: impl FnOnce(&mut Burst) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Burst {
    fn is_paste(&self) -> bool {
        self.keys > if self.before.is_empty() { LONG_BURST } else { 1 }
    }
}

impl ConditionalEventHandler for Pace {
    fn handle(&self, event: &Event, _: RepeatCount, _: bool, at: &EventContext<'_>) -> Option<Cmd> {
        let (is_fast, is_paste) = self.on_key(Instant::now());
        let &KeyEvent(key, modifiers) = event.get(0)?;
        let before = &at.line()[..at.pos()];
        let is_at_end = at.pos() == at.line().len();
        // The reader of the line looks whether more is to come.
        let accepts = is_fast && is_at_end;
        match (key, modifiers) {
            (KeyCode::Enter, Modifiers::NONE) | (KeyCode::Char('J' | 'M'), Modifiers::CTRL) => {
                if accepts {
                    Some(Cmd::AcceptLine)
                } else {
                    self.indented(before)
                }
            }
            (KeyCode::Tab, Modifiers::NONE) if is_paste || is_indent(before) => {
                // Not as a key: the editor would take that for the repetition of all keys before.
                Some(Cmd::Insert(1, "\t".to_owned()))
            }
            (KeyCode::Char(char), Modifiers::NONE) if !is_fast && is_at_end => {
                let line = &before[before.rfind('\n')? + 1..];
                let columns =
                    Some(indent::too_far(&self.chunk(before), char)).filter(|&n| n > 0)?;
                let (start, line) =
                    (before.len() - line.len(), format!("{}{char}", &line[columns..]));
                self.with(|burst| burst.replacement = Some((start, line)));
                // This is the only command that replaces the text before the cursor.
                Some(Cmd::Complete)
            }
            _ => None,
        }
    }
}

impl Pace {
    /// A new line with the indentation that it should have, if the chunk is to go on.
    fn indented(&self, before: &str) -> Option<Cmd> {
        let chunk = self.chunk(before);
        let columns = indent::after(&chunk).filter(|&columns| columns > 0)?;
        chunk::wants_more(&chunk).then(|| Cmd::Insert(1, format!("\n{}", " ".repeat(columns))))
    }
}

/// The keys for an editor, as in other shells: Ctrl-X Ctrl-E.
pub(crate) struct EditorKeys(pub(crate) Pace);

impl ConditionalEventHandler for EditorKeys {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        self.0.want_editor();
        Some(Cmd::AcceptLine)
    }
}

/// Whether what stands before the cursor is a line's empty beginning: there is nothing to complete.
fn is_indent(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default();
    before.contains('\n') && line.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_faster_than_anybody_types_is_a_paste() {
        let (pace, start) = (Pace::default(), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        for key in 0..200 {
            assert_eq!(pace.on_key(after(100 * key)), (false, false), "typed by hand");
        }
        let late = after(100_000);
        for key in 0..LONG_BURST {
            assert_eq!(pace.on_key(late), (key > 0, false), "what a script types in one go");
        }
        assert_eq!(pace.on_key(late), (true, true));
        pace.set_before("f(\n");
        assert_eq!(pace.on_key(after(200_000)), (false, false));
        assert_eq!(pace.on_key(after(200_001)), (true, true), "lines before it were pasted");
    }

    #[test]
    fn a_tab_at_the_beginning_of_a_further_line_indents() {
        assert!(is_indent("for i = 1, 3 do\n"));
        assert!(is_indent("for i = 1, 3 do\n\t "));
        assert!(!is_indent("for i = 1, 3 do\nfi"));
        assert!(!is_indent("") && !is_indent("fi"));
    }
}
