//! Lua values that are sent, and values from strangers that Lua gets to see.

use kademlua::bencode::Value;
use mlua::{Lua, Table, Value as LuaValue};

use super::convert::encode;
use super::tables::to_lua;

/// As the shell has it.
fn decode(lua: &Lua, value: &Value) -> mlua::Result<LuaValue> {
    to_lua(lua, &lua.create_table()?, value)
}

/// Tables of one input; more shows nothing new.
const MAX_TABLES: usize = 512;

/// The largest value that is encoded, with the names of the last step on top.
const MAX_ENCODED: usize = (1 << 16) + (1 << 12);

/// Whatever a program builds, tables in tables and in themselves, is encoded or refused with its
/// place; an encoded value is the same after a way through Lua. Any value that came over the network
/// becomes a Lua value.
pub fn lua(bytes: &[u8]) {
    let lua = Lua::new();
    if let Ok(value) = Value::parse(bytes) {
        let seen = decode(&lua, &value).expect("memory for a small value");
        // Refused are integers that an original node could not take.
        let _ = encode("seen", &seen);
    }
    let built = Builder { lua: &lua, script: bytes, tables: Vec::new() }.build();
    match encode("value", &built) {
        Ok(value) => {
            assert!(value.as_bytes().len() <= MAX_ENCODED);
            let back = decode(&lua, &value).expect("memory for a small value");
            assert_eq!(encode("value", &back).as_ref(), Ok(&value));
        }
        Err(refused) => assert!(refused.to_string().starts_with("value")),
    }
}

struct Builder<'a> {
    lua: &'a Lua,
    script: &'a [u8],
    tables: Vec<Table>,
}

impl Builder<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.script.split_first() else { return 0 };
        self.script = rest;
        byte
    }

    fn word(&mut self) -> [u8; 8] {
        std::array::from_fn(|_| self.byte())
    }

    fn build(mut self) -> LuaValue {
        let mut value = self.add_table();
        while !self.script.is_empty() && self.tables.len() < MAX_TABLES {
            match self.byte() % 4 {
                0 => value = self.wrap(value),
                1 => self.append(),
                2 => self.set(),
                _ => value = self.part(),
            }
        }
        value
    }

    fn add_table(&mut self) -> LuaValue {
        let table = self.lua.create_table().expect("memory for a small table");
        self.tables.push(table.clone());
        LuaValue::Table(table)
    }

    /// Some levels of tables around a value.
    fn wrap(&mut self, mut value: LuaValue) -> LuaValue {
        for _ in 0..self.byte() % 80 {
            let LuaValue::Table(table) = self.add_table() else { unreachable!("it is one") };
            table.raw_push(value).expect("memory for a small table");
            value = LuaValue::Table(table);
        }
        value
    }

    fn table(&mut self) -> Table {
        let number = usize::from(self.byte());
        self.tables[self.tables.len() - 1 - number % self.tables.len()].clone()
    }

    fn append(&mut self) {
        let (table, value) = (self.table(), self.part());
        table.raw_push(value).expect("memory for a small table");
    }

    /// Keys that Lua does not take, nil and NaN, are left out.
    fn set(&mut self) {
        let (table, key, value) = (self.table(), self.part(), self.part());
        let _ = table.raw_set(key, value);
    }

    fn part(&mut self) -> LuaValue {
        match self.byte() % 8 {
            0 => LuaValue::Nil,
            1 => LuaValue::Boolean(true),
            2 => LuaValue::Integer(i64::from_be_bytes(self.word())),
            3 => LuaValue::Integer(i64::from(self.byte())),
            4 => LuaValue::Number(f64::from_be_bytes(self.word())),
            5 => LuaValue::Table(self.table()),
            6 => self.add_table(),
            _ => {
                // Up to 65,280 bytes.
                let (byte, len) = (self.byte(), usize::from(self.byte()) * 256);
                let text = vec![byte; if len > 8_192 { len } else { len / 256 }];
                LuaValue::String(self.lua.create_string(text).expect("memory for a string"))
            }
        }
    }
}
