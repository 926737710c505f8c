//! `settings`: what the node's settings are, what they would be, and what they mean.

use mlua::{Lua, Table};

use super::arguments::Arguments;
use super::functions::{Context, Functions, Trouble};
use crate::config::{Range, SETTINGS, Setting};

pub(crate) fn add_to(functions: &Functions) -> mlua::Result<()> {
    functions.add("settings", settings)
}

fn settings(context: &Context, lua: &Lua, _: Arguments) -> Result<Table, Trouble> {
    let list = lua.create_table()?;
    for setting in SETTINGS {
        let row = lua.create_table()?;
        row.raw_set("name", setting.name)?;
        row.raw_set("value", number(setting, setting.value(context.handle().config())))?;
        row.raw_set("default", number(setting, setting.default_value()))?;
        row.raw_set("unit", setting.range.unit())?;
        row.raw_set("takes", setting.range.to_string())?;
        row.raw_set("meaning", setting.doc.trim())?;
        row.raw_set("source", setting.source)?;
        list.raw_push(row)?;
    }
    Ok(list)
}

/// Numbers of things without a point.
fn number(setting: &Setting, value: f64) -> mlua::Value {
    match setting.range {
        Range::Count(..) | Range::Flag => mlua::Value::Integer(value as i64),
        Range::Seconds | Range::SecondsOrNever => mlua::Value::Number(value),
    }
}
