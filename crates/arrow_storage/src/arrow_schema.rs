//! The Arrow schema that a segment carries, so that Arrow readers see `fixed_size_list<float>[dim]`.
//!
//! Parquet itself has no list of fixed size. Arrow readers take it from the key `ARROW:schema`, the base64 of
//! an IPC schema message. Only one number in it varies, so the message is a constant with a hole, and no
//! Arrow library is needed. `pyarrow.schema([...]).serialize()` with the fields of [`crate::table`] gives it.

/// The message up to byte 132, where the four bytes of the list's size begin.
const HEAD: &str = "\
     /////8gBAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAMAAAACAAIAAAABAAIAAAABAAAAAYAAABoAQAALAEAAPwAAAC0AAAA\
     dAAAAAQAAADA/v//AAAAEBQAAAAkAAAABAAAAAEAAAAgAAAACQAAAGVtYmVkZGluZwAGAAgABAAGAAAA";

/// The two bytes behind the size, which share its base64 digits.
const BETWEEN: [u8; 2] = [248, 254];

/// The message from byte 138.
const TAIL: &str = "\
     //8AAAADEAAAACAAAAAEAAAAAAAAAAcAAABlbGVtZW50AAAABgAIAAYABgAAAAAAAQAs////AAAAChAAAAAcAAAABAAAAAAA\
     AAAKAAAAdXBkYXRlZF9hdAAAxP///wAAAgAEAAAAAwAAAFVUQwBo////AAAAChAAAAAkAAAABAAAAAAAAAAKAAAAY3JlYXRl\
     ZF9hdAAACAAMAAYACAAIAAAAAAACAAQAAAADAAAAVVRDAKz///8AAAAFEAAAABwAAAAEAAAAAAAAAAgAAABtZXRhZGF0YQAA\
     AACc////2P///wAAAAUQAAAAGAAAAAQAAAAAAAAABwAAAGNvbnRlbnQAxP///xAAFAAIAAAABwAMAAAAEAAQAAAAAAAABRAA\
     AAAgAAAABAAAAAAAAAAJAAAAbWVtb3J5X2lkAAAABAAEAAQAAAA=";

/// Base64 of the schema message for vectors of `dimension`.
pub(crate) fn encode(dimension: usize) -> String {
    let size = (dimension as u32).to_le_bytes();
    let hole = [size[0], size[1], size[2], size[3], BETWEEN[0], BETWEEN[1]];
    format!("{HEAD}{}{TAIL}", base64(&hole))
}

/// Base64 of a multiple of three bytes.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks_exact(3)
        .flat_map(|chunk| {
            let group = u32::from(chunk[0]) << 16 | u32::from(chunk[1]) << 8 | u32::from(chunk[2]);
            [18, 12, 6, 0].map(|shift| DIGITS[(group >> shift & 63) as usize] as char)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_size_of_the_list_varies() {
        assert_eq!(super::base64(b"Many hands"), "TWFueSBoYW5k");
        let (small, large) = (super::encode(3), super::encode(0x0102_0304));
        assert_eq!(&small[176..182], "AwAAAP");
        assert_eq!(&large[176..182], "BAMCAf");
        assert_eq!(small.len(), large.len());
    }
}
