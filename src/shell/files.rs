//! Files of values, for `save` and `read`, and the programs of `dofile`.
//!
//! Programs reach only such files: regular ones with these endings, of a bounded size. A file appears whole or not
//! at all, and an existing one is replaced only if the program says so.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use mlua::{Lua, LuaString, Table, Value as LuaValue};

use super::arguments::Complaint;
use super::chunk::source_of;
use super::convert::describe;
use super::escape::escape;
use super::functions::{Functions, Trouble};

/// The largest file: a value of that size fills much of Lua's memory.
const BYTES_MAX: usize = 16 << 20;

/// The endings of names, which tell what is in a file.
const ENDINGS: [&str; 4] = ["json", "csv", "lua", "txt"];

/// Adds what `lua/files.lua` makes `save`, `read` and `dofile` of.
pub(crate) fn add_to(functions: &Functions) -> mlua::Result<()> {
    functions.add("file_kind", "", |_, lua, mut arguments| {
        let (caller, file) = (arguments.string("caller")?, arguments.any());
        let kind = named(&String::from_utf8_lossy(&caller), &file)?.1;
        Ok(lua.create_string(kind)?)
    })?;
    functions.add("file_read", "", |_, lua, mut arguments| {
        let (caller, file) = (arguments.string("caller")?, arguments.any());
        let caller = String::from_utf8_lossy(&caller);
        let (path, kind) = named(&caller, &file)?;
        let bytes = read(&path).map_err(|error| complaint(&caller, &path, error))?;
        Ok(lua.create_string(if kind == "lua" { source_of(&bytes) } else { bytes })?)
    })?;
    functions.add("file_write", "", |_, lua, mut arguments| {
        let (file, existing) = (arguments.any(), arguments.any());
        let bytes = arguments.string("text")?;
        let (path, _) = named("save", &file)?;
        let replaces = match &existing {
            LuaValue::Nil => false,
            LuaValue::String(word) if *word == "replace" => true,
            other => {
                let got = describe(other);
                let expected = "existing: expected nothing or \"replace\"";
                return Err(Complaint::new("save", format_args!("{expected}, got {got}")).into());
            }
        };
        write(&path, &bytes, replaces).map_err(|error| complaint("save", &path, error))?;
        written(lua, &file, bytes.len())
    })
}

fn written(lua: &Lua, file: &LuaValue, bytes: usize) -> Result<Table, Trouble> {
    let table = lua.create_table()?;
    table.raw_set("file", file)?;
    table.raw_set("bytes", bytes)?;
    Ok(table)
}

fn complaint(caller: &str, path: &Path, error: io::Error) -> Complaint {
    let path = path.display().to_string();
    Complaint::new(caller, format_args!("{}: {error}", escape(path.as_bytes(), false)))
}

/// The path, and its ending, which tells what is in it.
fn named(caller: &str, file: &LuaValue) -> Result<(PathBuf, &'static str), Complaint> {
    let text = file.as_string().map(LuaString::to_string_lossy);
    let path = text.map(PathBuf::from).unwrap_or_default();
    let ending = path.extension().and_then(|ending| ENDINGS.into_iter().find(|it| ending == *it));
    let is_fine = |kind: &&str| caller != "dofile" || *kind == "lua";
    match ending.filter(is_fine) {
        Some(kind) => Ok((path, kind)),
        None => {
            let endings = if caller == "dofile" { ".lua" } else { ".json, .csv, .lua or .txt" };
            let got = match file {
                LuaValue::String(_) => {
                    format!("\"{}\"", escape(path.display().to_string().as_bytes(), false))
                }
                other => describe(other),
            };
            let expected =
                format_args!("file: expected a name that ends with {endings}, got {got}");
            Err(Complaint::new(caller, expected))
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // A file that is not regular may never end, and opening it may wait.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > BYTES_MAX {
        return Err(too_large());
    }
    Ok(bytes)
}

fn too_large() -> io::Error {
    io::Error::other(format!("more than {} MB", BYTES_MAX >> 20))
}

/// Writes a file beside the old one, and then puts it in its place: a reader sees the old file or the new
/// one.
fn write(path: &Path, bytes: &[u8], replaces: bool) -> io::Result<()> {
    if bytes.len() > BYTES_MAX {
        return Err(too_large());
    }
    match fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() => return Err(io::Error::other("it is no regular file")),
        Ok(_) if !replaces => return Err(there_already()),
        _ => {}
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let everybody = fs::Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new()
        .prefix(".kademlua-")
        .permissions(everybody)
        .tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    let kept = if replaces { file.persist(path) } else { file.persist_noclobber(path) };
    match kept {
        Ok(_) => Ok(()),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(there_already())
        }
        Err(refused) => Err(refused.error),
    }
}

fn there_already() -> io::Error {
    let message = "it is there already; a third argument \"replace\" replaces it";
    io::Error::new(io::ErrorKind::AlreadyExists, message)
}
