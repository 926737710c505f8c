//! Rows: a list of tables as CSV, and back.
//!
//! The first line names the columns. Cells are texts, numbers, true and false; nil is an empty cell, a table its
//! JSON. When read back, anything that looks like a number is one.

use std::cell::RefCell;
use std::collections::BTreeSet;

use mlua::{Lua, Table, Value as LuaValue};

use super::arguments::Complaint;
use super::convert::{self, describe, sequence_len};
use super::engine::Format;
use super::escape::escape;
use super::functions::{Context, Functions};

/// Adds `row`, and what `lua/files.lua` makes of rows in files.
pub(crate) fn add_to(functions: &Functions) -> mlua::Result<()> {
    let header = RefCell::new(None);
    functions.add("row", "{nodes = 100, hops = 2.1}", move |context, _, mut arguments| {
        let value = arguments.any();
        let LuaValue::Table(row) = &value else {
            return Err(arguments.wrong("row", "a table", &value, &arguments.advice()).into());
        };
        let text = match context.format {
            Format::Text => return Ok(()),
            Format::Json => context
                .json(&value)
                .map(|json| format!("{json}\n"))
                .map_err(|error| error.to_string()),
            Format::Csv => next_row(context, row, &mut header.borrow_mut()),
        };
        let text = text.map_err(|error| arguments.complaint(error))?;
        context.print(&text).map_err(|error| arguments.complaint(error).into())
    })?;
    functions.add("to_csv", "", |context, lua, mut arguments| {
        let csv = csv(&arguments.any(), RowReader::Program, context);
        Ok(lua.create_string(csv.map_err(|error| Complaint::new("save", error))?)?)
    })?;
    functions.add("from_csv", "", |_, lua, mut arguments| {
        let bytes = arguments.string("text")?;
        Ok(read(lua, &bytes).map_err(|error| Complaint::new("read", error))?)
    })?;
    functions.add("to_json", "", |context, _, mut arguments| {
        let json = context.json(&arguments.any());
        Ok(json.map_err(|error| Complaint::new("save", error))? + "\n")
    })?;
    functions.add("from_json", "", |_, lua, mut arguments| {
        let json = serde_json::from_slice(&arguments.string("text")?);
        let json = json.map_err(|error| Complaint::new("read", error))?;
        Ok(convert::from_json(lua, &json)?)
    })
}

/// One more row; the first names the columns.
fn next_row(
    context: &Context,
    row: &Table,
    header: &mut Option<Columns>,
) -> Result<String, String> {
    let own = columns_of(std::slice::from_ref(row))?;
    if own.is_empty() {
        return Ok(String::new());
    }
    let is_first = header.is_none();
    let columns = header.get_or_insert_with(|| own.clone());
    if let Some(other) = own.difference(columns).next() {
        let name = escape(&other.name(), false);
        return Err(format!("the first row has no column '{name}', so this cannot have one"));
    }
    let text = written(columns, std::slice::from_ref(row), is_first, RowReader::Anybody, context)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Columns of one table, at most.
const COLUMNS_MAX: usize = 1_000;

/// The names of columns in their order: numbers, then texts.
type Columns = BTreeSet<Column>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Column {
    Number(i64),
    Text(Vec<u8>),
}

impl Column {
    fn of(key: &LuaValue) -> Result<Column, String> {
        match key {
            LuaValue::Integer(number) => Ok(Column::Number(*number)),
            LuaValue::String(text) => Ok(Column::Text(text.as_bytes().to_vec())),
            other => {
                Err(format!("expected names and whole numbers as columns, got {}", describe(other)))
            }
        }
    }

    fn named(name: &[u8]) -> Column {
        match integer(name) {
            Some(number) => Column::Number(number),
            None => Column::Text(name.to_vec()),
        }
    }

    fn name(&self) -> Vec<u8> {
        match self {
            Column::Number(number) => number.to_string().into_bytes(),
            Column::Text(text) => text.clone(),
        }
    }

    fn get(&self, row: &Table) -> LuaValue {
        let value = match self {
            Column::Number(number) => row.raw_get(*number),
            // Of bytes, as Lua has them.
            Column::Text(text) => row.raw_get(mlua::BString::from(text.clone())),
        };
        value.unwrap_or(LuaValue::Nil)
    }
}

/// Where rows go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowReader {
    /// A program that wants the exact bytes.
    Program,
    /// Somebody who may look at it on a terminal: characters that it would obey are escaped.
    Anybody,
}

/// A list of tables, or one table, as CSV.
///
/// # Errors
/// Says why the value has no rows, or which part of it is no row.
pub(crate) fn csv(
    value: &LuaValue,
    reader: RowReader,
    context: &Context,
) -> Result<Vec<u8>, String> {
    let expected = "expected rows, a list of tables";
    let LuaValue::Table(table) = value else {
        return Err(format!("{expected}, got {}", describe(value)));
    };
    let rows = rows_of(table).ok_or_else(|| format!("{expected}, got a list of other things"))?;
    let columns = columns_of(&rows)?;
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    written(&columns, &rows, true, reader, context)
}

fn columns_of(rows: &[Table]) -> Result<Columns, String> {
    let mut columns = Columns::new();
    for row in rows {
        for (key, _) in row.pairs::<LuaValue, LuaValue>().flatten() {
            columns.insert(Column::of(&key)?);
            if columns.len() > COLUMNS_MAX {
                return Err(format!("more than {COLUMNS_MAX} columns"));
            }
        }
    }
    Ok(columns)
}

fn written(
    columns: &Columns,
    rows: &[Table],
    has_header: bool,
    reader: RowReader,
    context: &Context,
) -> Result<Vec<u8>, String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let fit = |cell: Vec<u8>| match reader {
        RowReader::Program => cell,
        RowReader::Anybody => escape(&cell, false).into_bytes(),
    };
    if has_header {
        let header = columns.iter().map(|column| fit(column.name()));
        writer.write_record(header).map_err(|error| error.to_string())?;
    }
    for row in rows {
        let mut cells = Vec::with_capacity(columns.len());
        for column in columns {
            cells.push(fit(cell(&column.get(row), context)?));
        }
        writer.write_record(cells).map_err(|error| error.to_string())?;
        if writer.get_ref().len() > convert::JSON_BYTES_MAX {
            return Err(format!("more than {} MB", convert::JSON_BYTES_MAX >> 20));
        }
    }
    writer.into_inner().map_err(|error| error.to_string())
}

/// The tables in a list, or one that is no list.
fn rows_of(table: &Table) -> Option<Vec<Table>> {
    match sequence_len(table) {
        None => Some(vec![table.clone()]),
        Some(len) => {
            let row = |index| table.raw_get::<LuaValue>(index).ok()?.as_table().cloned();
            (1..=len).map(row).collect()
        }
    }
}

fn cell(value: &LuaValue, context: &Context) -> Result<Vec<u8>, String> {
    Ok(match value {
        LuaValue::Nil => Vec::new(),
        LuaValue::String(text) => text.as_bytes().to_vec(),
        LuaValue::Number(number) => format!("{number:?}").into_bytes(),
        LuaValue::Table(_) => context.json(value).map_err(|error| error.to_string())?.into_bytes(),
        other => describe(other).into_bytes(),
    })
}

/// The rows of a CSV, as a list of tables.
///
/// # Errors
/// Says what is wrong, and where.
pub(crate) fn read(lua: &Lua, bytes: &[u8]) -> Result<Table, String> {
    let fail = |error: mlua::Error| error.to_string();
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.byte_headers().map_err(|error| error.to_string())?;
    let columns: Vec<Column> = header.iter().map(Column::named).collect();
    let list = lua.create_table().map_err(fail)?;
    for row in reader.byte_records() {
        let row = row.map_err(|error| error.to_string())?;
        let table = lua.create_table().map_err(fail)?;
        for (column, cell) in columns.iter().zip(&row) {
            let value = value(lua, cell).map_err(fail)?;
            let put = match column {
                Column::Number(number) => table.raw_set(*number, value),
                Column::Text(text) => table.raw_set(mlua::BString::from(text.clone()), value),
            };
            put.map_err(fail)?;
        }
        list.raw_push(table).map_err(fail)?;
    }
    Ok(list)
}

fn value(lua: &Lua, cell: &[u8]) -> mlua::Result<LuaValue> {
    if let Some(number) = integer(cell) {
        return Ok(LuaValue::Integer(number));
    }
    Ok(match cell {
        b"" => LuaValue::Nil,
        b"true" => LuaValue::Boolean(true),
        b"false" => LuaValue::Boolean(false),
        _ => match number(cell) {
            Some(number) => LuaValue::Number(number),
            None => LuaValue::String(lua.create_string(cell)?),
        },
    })
}

/// A whole number as it is written: `007` is a text.
fn integer(cell: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(cell).ok()?;
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
}

fn number(cell: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(cell).ok()?;
    text.parse().ok().filter(|number: &f64| format!("{number:?}") == text)
}
