//! The compact Thrift encoding, as far as a Parquet footer needs it.
//!
//! Source: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

const I32: u8 = 5;
const I64: u8 = 6;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// One struct being written: fields must come with rising ids.
pub struct Struct<'a> {
    out: &'a mut Vec<u8>,
    last_id: u8,
}

impl<'a> Struct<'a> {
    /// Writes a struct at the end of `out`; `fields` writes what is in it.
    pub fn write(out: &'a mut Vec<u8>, fields: impl FnOnce(&mut Struct)) {
        let mut this = Struct { out, last_id: 0 };
        fields(&mut this);
        this.out.push(0);
    }

    fn field(&mut self, id: u8, kind: u8) {
        debug_assert!(id > self.last_id && id - self.last_id < 16);
        self.out.push((id - self.last_id) << 4 | kind);
        self.last_id = id;
    }

    pub fn i32(&mut self, id: u8, value: i32) {
        self.field(id, I32);
        zigzag(self.out, i64::from(value));
    }

    pub fn i64(&mut self, id: u8, value: u64) {
        self.field(id, I64);
        zigzag(self.out, value as i64);
    }

    pub fn text(&mut self, id: u8, value: &str) {
        self.field(id, BINARY);
        text(self.out, value);
    }

    pub fn nested(&mut self, id: u8, fields: impl FnOnce(&mut Struct)) {
        self.field(id, STRUCT);
        Struct::write(self.out, fields);
    }

    pub fn structs<T>(&mut self, id: u8, items: &[T], mut fields: impl FnMut(&mut Struct, &T)) {
        self.list(id, STRUCT, items.len());
        for item in items {
            Struct::write(self.out, |inner| fields(inner, item));
        }
    }

    pub fn i32s(&mut self, id: u8, items: &[i32]) {
        self.list(id, I32, items.len());
        for &item in items {
            zigzag(self.out, i64::from(item));
        }
    }

    pub fn texts(&mut self, id: u8, items: &[&str]) {
        self.list(id, BINARY, items.len());
        for item in items {
            text(self.out, item);
        }
    }

    fn list(&mut self, id: u8, kind: u8, len: usize) {
        self.field(id, LIST);
        if len < 15 {
            self.out.push((len as u8) << 4 | kind);
        } else {
            self.out.push(0xF0 | kind);
            varint(self.out, len as u64);
        }
    }
}

/// Unsigned LEB128.
pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(out: &mut Vec<u8>, value: i64) {
    varint(out, (value.wrapping_shl(1) ^ (value >> 63)) as u64);
}

fn text(out: &mut Vec<u8>, value: &str) {
    varint(out, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_the_examples_of_the_specification() {
        let mut out = Vec::new();
        for value in [0, -1, 1, -2, 2] {
            zigzag(&mut out, value);
        }
        varint(&mut out, 50_399);
        assert_eq!(out, [0, 1, 2, 3, 4, 0xDF, 0x89, 0x03]);
    }

    #[test]
    fn field_headers_carry_the_difference_of_ids() {
        let mut out = Vec::new();
        Struct::write(&mut out, |s| {
            s.i32(1, 1);
            s.text(4, "ab");
            s.nested(10, |_| ());
        });
        assert_eq!(out, [0x15, 2, 0x38, 2, b'a', b'b', 0x6C, 0, 0]);
    }
}
