//! Earlier results at the prompt: `_` is the last one, `_1`, `_2`, … are all that are kept, by number.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mlua::{Lua, Table, Value as LuaValue};

use super::failure::MEMORY_MAX;

/// The name of the last result.
const LAST: &str = "_";

/// Results that are kept: what a person scrolls back to.
const KEPT_MAX: usize = 100;

/// If Lua has less memory left than this, only the last result is kept.
const ROOM_MIN: usize = MEMORY_MAX / 2;

/// The results that are kept.
pub(crate) struct Kept {
    environment: Table,
    /// The number of the last result, which the prompt shows.
    count: Arc<AtomicU64>,
    names: RefCell<VecDeque<(String, LuaValue)>>,
}

impl Kept {
    /// None yet.
    pub(crate) fn new(environment: Table, count: Arc<AtomicU64>) -> Kept {
        Kept { environment, count, names: RefCell::default() }
    }

    /// Keeps a result under its number, and as the last. A name that the program uses itself stays what it is.
    pub(crate) fn keep(&self, lua: &Lua, result: &LuaValue) -> mlua::Result<()> {
        if result.is_nil() {
            return Ok(());
        }
        let mut names = self.names.borrow_mut();
        let last = names.back().map_or(LuaValue::Nil, |(_, last)| last.clone());
        self.replace(LAST, &last, result)?;
        let name = format!("_{}", self.count.fetch_add(1, Ordering::SeqCst) + 1);
        self.replace(&name, &LuaValue::Nil, result)?;
        names.push_back((name, result.clone()));
        let is_short = lua.used_memory() > MEMORY_MAX - ROOM_MIN;
        while names.len() > if is_short { 1 } else { KEPT_MAX } {
            let (name, value) = names.pop_front().expect("there are some");
            self.replace(&name, &value, &LuaValue::Nil)?;
        }
        Ok(())
    }

    /// Forgets all results, as there is no memory for them.
    pub(crate) fn forget(&self) -> mlua::Result<()> {
        for (name, value) in self.names.borrow_mut().drain(..) {
            self.replace(&name, &value, &LuaValue::Nil)?;
            self.replace(LAST, &value, &LuaValue::Nil)?;
        }
        Ok(())
    }

    fn replace(&self, name: &str, expected: &LuaValue, value: &LuaValue) -> mlua::Result<()> {
        if self.environment.raw_get::<LuaValue>(name)? == *expected {
            self.environment.raw_set(name, value)?;
        }
        Ok(())
    }
}
