//! The functions for keys, ids and other strings of bytes.

use crate::id::Id;

use crate::serial::{from_hex, hex};

use super::functions::Functions;

const IDS: &str = "sha1(\"a\"), sha1(\"b\")";

pub(crate) fn add_to(functions: &Functions) -> mlua::Result<()> {
    functions.add("sha1", "\"key\"", |_, lua, mut arguments| {
        Ok(lua.create_string(Id::of_name(arguments.string("text")?).as_bytes())?)
    })?;
    functions.add("tohex", "\"AZ\"", |_, _, mut arguments| Ok(hex(&arguments.string("bytes")?)))?;
    functions.add("fromhex", "\"415a\"", |_, lua, mut arguments| {
        let digits = arguments.string("digits")?;
        let bytes = from_hex(&digits).ok_or_else(|| {
            let advice = arguments.advice();
            arguments
                .complaint(format_args!("digits: expected an even number of hex digits{advice}"))
        })?;
        Ok(lua.create_string(bytes)?)
    })?;
    functions.add("xor", IDS, |_, lua, mut arguments| {
        let (a, b) = (arguments.id("a")?, arguments.id("b")?);
        Ok(lua.create_string(xor(a, b).as_bytes())?)
    })?;
    functions.add("getbucketno", IDS, |_, _, mut arguments| {
        let (a, b) = (arguments.id("distance")?, arguments.optional_id("b")?);
        Ok(a.common_prefix(&b.unwrap_or(Id::new([0; Id::LEN]))) + 1)
    })
}

fn xor(a: Id, b: Id) -> Id {
    let mut bytes = *a.as_bytes();
    bytes.iter_mut().zip(b.as_bytes()).for_each(|(byte, other)| *byte ^= other);
    Id::new(bytes)
}
