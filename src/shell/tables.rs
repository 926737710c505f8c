//! Lua tables of plain data: what a node tells.
//!
//! One serializer for all of it. mlua's own does not serve: it drops the names of structs, by which a
//! table gets its shape (the metatable that shows it); it has a special value for null, which is nil
//! here; and it calls itself human readable, so that bytes would come as text.

use std::fmt;

use mlua::{IntoLua, Lua, Table, Value as LuaValue};
use serde::ser::{self, Serialize, Serializer};

/// The Lua value of plain data. `shapes` has the metatables of structs by their names.
///
/// # Errors
/// If Lua has no memory for it.
pub(crate) fn to_lua<T: Serialize + ?Sized>(
    lua: &Lua,
    shapes: &Table,
    data: &T,
) -> mlua::Result<LuaValue> {
    data.serialize(Maker { lua, shapes }).map_err(|Failed(error)| error)
}

#[derive(Clone, Copy)]
struct Maker<'a> {
    lua: &'a Lua,
    shapes: &'a Table,
}

/// Lua's error as serde's.
#[derive(Debug)]
struct Failed(mlua::Error);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failed {}

impl ser::Error for Failed {
    fn custom<T: fmt::Display>(message: T) -> Failed {
        Failed(mlua::Error::runtime(message))
    }
}

impl From<mlua::Error> for Failed {
    fn from(error: mlua::Error) -> Failed {
        Failed(error)
    }
}

impl<'a> Maker<'a> {
    fn make(self, plain: impl IntoLua) -> Result<LuaValue, Failed> {
        Ok(plain.into_lua(self.lua)?)
    }

    fn list(self, len: Option<usize>) -> Result<ListWriter<'a>, Failed> {
        let table = self.lua.create_table_with_capacity(len.unwrap_or(0), 0)?;
        Ok(ListWriter { maker: self, table, len: 0, of: None })
    }

    fn fields(self, shape: Option<&str>) -> Result<Fields<'a>, Failed> {
        let table = self.lua.create_table()?;
        if let Some(shape) = shape {
            table.set_metatable(self.shapes.raw_get(shape)?)?;
        }
        Ok(Fields { maker: self, table, key: LuaValue::Nil, of: None })
    }
}

/// A list that is being made, and the name of the variant that it belongs to.
struct ListWriter<'a> {
    maker: Maker<'a>,
    table: Table,
    len: usize,
    of: Option<&'static str>,
}

/// A table with names that is being made.
struct Fields<'a> {
    maker: Maker<'a>,
    table: Table,
    key: LuaValue,
    of: Option<&'static str>,
}

fn finished(maker: Maker<'_>, table: Table, of: Option<&str>) -> Result<LuaValue, Failed> {
    let Some(variant) = of else { return Ok(LuaValue::Table(table)) };
    let outer = maker.lua.create_table()?;
    outer.raw_set(variant, table)?;
    Ok(LuaValue::Table(outer))
}

impl<'a> Serializer for Maker<'a> {
    type Ok = LuaValue;
    type Error = Failed;
    type SerializeSeq = ListWriter<'a>;
    type SerializeTuple = ListWriter<'a>;
    type SerializeTupleStruct = ListWriter<'a>;
    type SerializeTupleVariant = ListWriter<'a>;
    type SerializeMap = Fields<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, value: bool) -> Result<LuaValue, Failed> {
        Ok(LuaValue::Boolean(value))
    }

    fn serialize_i8(self, value: i8) -> Result<LuaValue, Failed> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<LuaValue, Failed> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<LuaValue, Failed> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<LuaValue, Failed> {
        Ok(LuaValue::Integer(value))
    }

    fn serialize_u8(self, value: u8) -> Result<LuaValue, Failed> {
        self.serialize_i64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<LuaValue, Failed> {
        self.serialize_i64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<LuaValue, Failed> {
        self.serialize_i64(value.into())
    }

    /// Beyond what Lua's integers hold it becomes a float.
    fn serialize_u64(self, value: u64) -> Result<LuaValue, Failed> {
        self.make(value)
    }

    fn serialize_f32(self, value: f32) -> Result<LuaValue, Failed> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<LuaValue, Failed> {
        Ok(LuaValue::Number(value))
    }

    fn serialize_char(self, value: char) -> Result<LuaValue, Failed> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<LuaValue, Failed> {
        self.serialize_bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<LuaValue, Failed> {
        Ok(LuaValue::String(self.lua.create_string(value)?))
    }

    fn serialize_none(self) -> Result<LuaValue, Failed> {
        Ok(LuaValue::Nil)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<LuaValue, Failed> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<LuaValue, Failed> {
        Ok(LuaValue::Nil)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<LuaValue, Failed> {
        Ok(LuaValue::Nil)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<LuaValue, Failed> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<LuaValue, Failed> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<LuaValue, Failed> {
        let table = self.lua.create_table()?;
        table.raw_set(variant, value.serialize(self)?)?;
        Ok(LuaValue::Table(table))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<ListWriter<'a>, Failed> {
        self.list(len)
    }

    fn serialize_tuple(self, len: usize) -> Result<ListWriter<'a>, Failed> {
        self.list(Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<ListWriter<'a>, Failed> {
        self.list(Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<ListWriter<'a>, Failed> {
        Ok(ListWriter { of: Some(variant), ..self.list(Some(len))? })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Fields<'a>, Failed> {
        self.fields(None)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Fields<'a>, Failed> {
        self.fields(Some(name))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields<'a>, Failed> {
        Ok(Fields { of: Some(variant), ..self.fields(None)? })
    }
}

impl ListWriter<'_> {
    fn push<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Failed> {
        self.len += 1;
        Ok(self.table.raw_set(self.len, item.serialize(self.maker)?)?)
    }
}

/// serde has a trait for each kind of list, and one for each kind of fields, which ask for the same.
macro_rules! all_alike {
    ($what:ident by $act:ident: $($kind:ident :: $method:ident ($($name:ident: $type:ty)?)),+) => {$(
        impl ser::$kind for $what<'_> {
            type Ok = LuaValue;
            type Error = Failed;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: $type,)?
                value: &T,
            ) -> Result<(), Failed> {
                self.$act($($name,)? value)
            }

            fn end(self) -> Result<LuaValue, Failed> {
                finished(self.maker, self.table, self.of)
            }
        }
    )+};
}

all_alike!(ListWriter by push:
    SerializeSeq::serialize_element(),
    SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(),
    SerializeTupleVariant::serialize_field()
);

all_alike!(Fields by put:
    SerializeStruct::serialize_field(name: &'static str),
    SerializeStructVariant::serialize_field(name: &'static str)
);

impl Fields<'_> {
    fn put<T: Serialize + ?Sized>(&mut self, name: &str, field: &T) -> Result<(), Failed> {
        Ok(self.table.raw_set(name, field.serialize(self.maker)?)?)
    }
}

impl ser::SerializeMap for Fields<'_> {
    type Ok = LuaValue;
    type Error = Failed;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failed> {
        self.key = key.serialize(self.maker)?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
        let key = std::mem::replace(&mut self.key, LuaValue::Nil);
        Ok(self.table.raw_set(key, value.serialize(self.maker)?)?)
    }

    fn end(self) -> Result<LuaValue, Failed> {
        finished(self.maker, self.table, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bencode::Value;

    #[derive(serde::Serialize)]
    #[serde(rename = "contact")]
    struct Shaped {
        port: u16,
        id: Option<String>,
    }

    #[test]
    fn values_come_as_bytes_and_structs_with_their_shapes() {
        let lua = Lua::new();
        let (shapes, shape) = (lua.create_table().unwrap(), lua.create_table().unwrap());
        shapes.set("contact", &shape).unwrap();
        let globals = lua.globals();
        let value = Value::parse(b"d1:ali1e2:\xff\0ei3e1:xe").unwrap();
        globals.set("value", to_lua(&lua, &shapes, &value).unwrap()).unwrap();
        let joined = (2, [Shaped { port: 8003, id: None }]);
        globals.set("joined", to_lua(&lua, &shapes, &joined).unwrap()).unwrap();
        globals.set("shape", shape).unwrap();
        let program = r"
            assert(value.a[1] == 1 and value.a[2] == '\255\0' and value[3] == 'x')
            assert(joined[1] == 2 and getmetatable(joined[2][1]) == shape)
            assert(joined[2][1].port == 8003 and joined[2][1].id == nil)";
        lua.load(program).exec().unwrap();
    }
}
