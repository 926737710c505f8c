//! The results of lessons: a file of JSON lines, one for each step that was passed.
//!
//! A line has the lesson, the seed of its network and all that was typed in it so far, so that anybody can replay it
//! (`lesson.replay`, `kademlua sim --grade`). The file is only ever appended to: what is damaged in it stays as it is,
//! and costs nothing but itself.

use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};

use mlua::{Lua, Table};
use serde::{Deserialize, Serialize};

use crate::state::{Access, FolderError};

use super::arguments::Complaint;
use super::functions::Trouble;
use super::history::{self, RESULTS};

/// The longest file of results: that is thousands of lessons.
pub(crate) const BYTES_MAX: u64 = 4 << 20;

/// How far somebody came in a lesson.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The file of the lesson, without its folder.
    pub(crate) lesson: String,
    /// The seed of its network.
    pub(crate) seed: u64,
    /// How many steps it has.
    pub(crate) steps: u32,
    /// The steps that were passed.
    pub(crate) passed: Vec<u32>,
    /// All chunks that were typed in it.
    pub(crate) typed: Vec<String>,
}

/// The records of a file, and what is wrong with its other lines: with the first of them, and how many there are.
pub(crate) fn parse(text: &[u8]) -> (Vec<Record>, Option<String>) {
    let (mut records, mut problem, mut broken) = (Vec::new(), None, 0);
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(record) => records.push(record),
            Err(error) => {
                problem.get_or_insert_with(|| format!("line {number} is no result ({error})"));
                broken += 1;
            }
        }
    }
    let problem = problem.map(|first: String| match broken {
        1 => first,
        _ => format!("{first}, and {} more lines", broken - 1),
    });
    (records, problem)
}

/// Adds a record to the user's file.
pub(crate) fn remember(table: &Table) -> Result<(), Trouble> {
    let record = Record {
        lesson: table.raw_get("lesson")?,
        seed: table.raw_get("seed")?,
        steps: table.raw_get("steps")?,
        passed: table.raw_get("passed")?,
        typed: table.raw_get("typed")?,
    };
    append(&record).map_err(|refused| Complaint(refused.to_string()).into())
}

fn append(record: &Record) -> Result<(), FolderError> {
    let folder = history::folder()?;
    let mut file = match folder.open(RESULTS, Access::Append) {
        Err(FolderError::Io(error)) if error.kind() == ErrorKind::NotFound => {
            drop(folder.create(RESULTS)?);
            folder.open(RESULTS, Access::Append)?
        }
        opened => opened?,
    };
    let length = file.metadata()?.len();
    let mut line = serde_json::to_string(record).map_err(io::Error::from)? + "\n";
    if length + line.len() as u64 > BYTES_MAX {
        let path = folder.path().join(RESULTS);
        let full = format!("{} is full; move it away", path.display());
        return Err(io::Error::new(ErrorKind::FileTooLarge, full).into());
    }
    // A line that was cut short, as by a full disk, takes no other with it.
    if length > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            line.insert(0, '\n');
        }
    }
    // One write: two shells may do so at once.
    Ok(file.write_all(line.as_bytes())?)
}

/// What was reached so far, for Lua: `file`, `records`, and `problem`, sentences.
pub(crate) fn reached(lua: &Lua) -> Result<Table, Trouble> {
    let (file, text) = read().map_err(|refused| Complaint::new("lesson", refused))?;
    let (records, problem) = parse(&text);
    let list = lua.create_table()?;
    for record in records {
        let table = lua.create_table()?;
        table.raw_set("lesson", record.lesson)?;
        table.raw_set("steps", record.steps)?;
        table.raw_set("passed", record.passed)?;
        list.raw_push(table)?;
    }
    let told = |problem| format!("{file}: {problem}. It is left as it is; all others count.");
    let table = lua.create_table()?;
    table.raw_set("records", list)?;
    table.raw_set("problem", problem.map(told))?;
    table.raw_set("file", file.clone())?;
    Ok(table)
}

/// The name of the user's file, and what is in it.
fn read() -> Result<(String, Vec<u8>), FolderError> {
    let folder = history::folder()?;
    let name = folder.path().join(RESULTS).display().to_string();
    let mut text = Vec::new();
    match folder.open(RESULTS, Access::Read) {
        Err(FolderError::Io(error)) if error.kind() == ErrorKind::NotFound => {}
        opened => drop(opened?.take(BYTES_MAX).read_to_end(&mut text)?),
    }
    Ok((name, text))
}
