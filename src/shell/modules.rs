//! `require`: files in the script's own folder, then in the user's folder for modules, and nothing else.

use std::io::ErrorKind;
use std::path::Path;

use mlua::Value as LuaValue;

use super::arguments::Complaint;
use super::chunk::source_of;
use super::convert;
use super::escape::escape;
use super::folders;

/// The largest module: it is a program that a person wrote.
const MODULE_BYTES_MAX: u64 = 1 << 20;

/// The source of a module and its path, beside the script in its folder; `a.b` is the file `a/b.lua`.
pub(crate) fn read(script: Option<&Path>, name: &LuaValue) -> Result<(Vec<u8>, String), Complaint> {
    let complain = |error: &dyn std::fmt::Display| Complaint::new("require", error);
    let name = match name {
        LuaValue::String(name) => name.to_string_lossy(),
        other => {
            let got = convert::describe(other);
            return Err(complain(&format_args!("expected the name of a module, got {got}")));
        }
    };
    if !is_module_name(&name) {
        return Err(complain(&format_args!(
            "'{}': expected letters, digits, '_' and '-', folders apart by '.'",
            escape(name.as_bytes(), false)
        )));
    }
    let file = format!("{}.lua", name.replace('.', "/"));
    let own = folders::configuration().map(|folder| folder.join("lua"));
    let own = own.map(|folder| folder.join(&file));
    let beside = script.map(|folder| read_inside(folder, &file));
    match (beside, own) {
        (Some(Err(error)), Some(own)) if error.kind() == ErrorKind::NotFound && own.exists() => {
            read_file(&own).map(|source| (source, own.display().to_string()))
        }
        (Some(beside), _) => beside.map(|source| (source, file)),
        (None, Some(own)) => read_file(&own).map(|source| (source, own.display().to_string())),
        (None, None) => Err(std::io::Error::other("no script is there, nor a folder for modules")),
    }
    .map_err(|error| complain(&format_args!("'{name}': {error}")))
}

/// Reads a file that lies in the folder when all links are followed.
fn read_inside(folder: &Path, file: &str) -> std::io::Result<Vec<u8>> {
    let path = folder.join(file).canonicalize()?;
    if !path.starts_with(folder.canonicalize()?) {
        return Err(std::io::Error::other("it lies outside of the script's folder"));
    }
    read_file(&path)
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.len() > MODULE_BYTES_MAX {
        return Err(std::io::Error::other("it is too large"));
    }
    Ok(source_of(&std::fs::read(path)?))
}

fn is_module_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    name.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_lead_out_of_the_folder() {
        for good in ["a", "util", "lib.table-2", "A_b.c"] {
            assert!(is_module_name(good), "{good}");
        }
        for bad in ["", "..", "...", "../x", "/etc/passwd", "a/b", ".a", "a.", "a\\b", "a\0"] {
            assert!(!is_module_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_link_out_of_the_folder_is_not_followed() {
        let folder = std::env::temp_dir().join(format!("kademlua-modules-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("inside")).unwrap();
        std::fs::write(folder.join("secret.lua"), "return 1").unwrap();
        std::fs::write(folder.join("inside/own.lua"), "return 2").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.join("secret.lua"), folder.join("inside/link.lua"))
            .unwrap();
        assert_eq!(read_inside(&folder.join("inside"), "own.lua").unwrap(), b"return 2");
        assert!(read_inside(&folder.join("inside"), "link.lua").is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
