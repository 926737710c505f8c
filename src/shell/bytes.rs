//! The functions for keys, ids and other strings of bytes.

use crate::id::Id;

use super::convert;
use super::functions::Functions;

pub(crate) fn add_to(functions: &Functions) -> mlua::Result<()> {
    functions.add("sha1", |_, lua, mut arguments| {
        Ok(lua.create_string(Id::of_name(arguments.string("text")?).as_bytes())?)
    })?;
    functions.add("tohex", |_, _, mut arguments| Ok(convert::hex(&arguments.string("bytes")?)))?;
    functions.add("fromhex", |_, lua, mut arguments| {
        let digits = arguments.string("digits")?;
        let bytes = convert::from_hex(&digits).ok_or_else(|| {
            arguments
                .complaint("digits: expected an even number of hex digits. Try fromhex(\"415a\")")
        })?;
        Ok(lua.create_string(bytes)?)
    })?;
    functions.add("xor", |_, lua, mut arguments| {
        let (a, b) = (arguments.id("a")?, arguments.id("b")?);
        Ok(lua.create_string(xor(a, b).as_bytes())?)
    })?;
    functions.add("getbucketno", |_, _, mut arguments| {
        let (a, b) = (arguments.id("distance")?, arguments.optional_id("b")?);
        Ok(a.common_prefix(&b.unwrap_or(Id::new([0; Id::LEN]))) + 1)
    })
}

fn xor(a: Id, b: Id) -> Id {
    let mut bytes = *a.as_bytes();
    bytes.iter_mut().zip(b.as_bytes()).for_each(|(byte, other)| *byte ^= other);
    Id::new(bytes)
}
