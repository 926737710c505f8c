//! The chapters of `lesson`: those that are built in, and those in a teacher's folder.

use std::path::{Path, PathBuf};

use mlua::{Lua, Table};

use super::arguments::Complaint;
use super::chunk::source_of;
use super::failure::built_in;
use super::functions::Trouble;

/// The variable that names a folder with more chapters.
const VARIABLE: &str = "KADEMLUA_LESSONS";

const BUILT_IN: [(&str, &str); 10] = [
    ("1-ids.lua", include_str!("../../lua/lessons/1-ids.lua")),
    ("2-routing.lua", include_str!("../../lua/lessons/2-routing.lua")),
    ("3-joining.lua", include_str!("../../lua/lessons/3-joining.lua")),
    ("4-lookup.lua", include_str!("../../lua/lessons/4-lookup.lua")),
    ("5-storing.lua", include_str!("../../lua/lessons/5-storing.lua")),
    ("6-churn.lua", include_str!("../../lua/lessons/6-churn.lua")),
    ("7-attacks.lua", include_str!("../../lua/lessons/7-attacks.lua")),
    ("8-sizes.lua", include_str!("../../lua/lessons/8-sizes.lua")),
    ("9-trace.lua", include_str!("../../lua/lessons/9-trace.lua")),
    ("10-routes.lua", include_str!("../../lua/lessons/10-routes.lua")),
];

/// All chapters in order, each with `name`, `source`, and `chunk`, the name of its chunk; the folder is read anew each time, so that
/// a teacher sees what was just written.
pub(crate) fn read(lua: &Lua, folder: Option<&Path>) -> Result<Table, Trouble> {
    let ours = BUILT_IN.map(|(name, source)| (name.to_owned(), source.into(), built_in(name)));
    let variable = std::env::var_os(VARIABLE).map(PathBuf::from);
    let own = match folder.map(Path::to_owned).or(variable) {
        Some(folder) => in_folder(&folder).map_err(|error| {
            Complaint::new("lesson", format_args!("folder {}: {error}", folder.display()))
        })?,
        None => Vec::new(),
    };
    let list = lua.create_table()?;
    for (name, source, chunk) in ours.into_iter().chain(own) {
        let table = lua.create_table()?;
        table.raw_set("name", name)?;
        table.raw_set("source", lua.create_string(&source)?)?;
        table.raw_set("chunk", chunk)?;
        list.raw_push(table)?;
    }
    Ok(list)
}

/// The name, source and name of the chunk.
type Chapter = (String, Vec<u8>, String);

/// The Lua files in a folder, by name.
fn in_folder(folder: &Path) -> std::io::Result<Vec<Chapter>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "lua") {
            let name = path.display().to_string();
            let chunk = format!("@{name}");
            files.push((name, source_of(&std::fs::read(&path)?), chunk));
        }
    }
    files.sort();
    Ok(files)
}
